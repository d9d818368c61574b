"""The checks of ``pywry-auth doctor``: settings, provider, redirect URI, stores and workers."""
