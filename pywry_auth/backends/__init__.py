"""Bytes with a lifetime: one file for each technology."""
