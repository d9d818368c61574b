"""The version of the package.

It has a file of its own, so that the build can read it without importing the rest.
"""

__version__ = "0.2.0.dev0"
