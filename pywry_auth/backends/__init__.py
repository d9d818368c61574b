"""Stores bytes with a lifetime: one file per technology."""
