"""The application that ``gunicorn wsgi:app`` serves, from settings only."""

from pywry_auth.site.application import app_from_settings

app = app_from_settings()
