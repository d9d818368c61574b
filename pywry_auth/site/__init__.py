"""The sample site: a small Flask application from settings, and the gunicorn settings to serve it."""
