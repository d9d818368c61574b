"""OAuth 2 and OpenID Connect login for blocking Python."""
