"""One user, one process, blocking: ``app.login()`` and what it needs."""
