"""The command line, and a local identity provider for trying things out."""
