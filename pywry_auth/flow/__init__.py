"""Code of both modes: login, tokens, access rules and events."""
