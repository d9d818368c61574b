"""Settings for ``gunicorn wsgi:app``.

gunicorn reads this file if it is in the directory where gunicorn starts.
"""

from pywry_auth.site.gunicorn_settings import *  # noqa: F403
