"""The sample site: a small Flask application, and gunicorn settings."""
