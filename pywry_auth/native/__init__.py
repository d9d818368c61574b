"""Native mode: one user, one process, blocking calls."""
