"""Settings for ``gunicorn wsgi:app``; gunicorn reads this file when it is started beside it."""

from pywry_auth.site.gunicorn_settings import *  # noqa: F403
