"""Sign-in for many users and workers: routes, sessions and guards."""
