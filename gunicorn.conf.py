"""Settings for ``gunicorn wsgi:app``; gunicorn reads this file when it is started beside it."""

from pywry_auth.cli.gunicorn_settings import *  # noqa: F403
