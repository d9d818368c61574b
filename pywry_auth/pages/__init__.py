"""All HTML pages: one design, and one way to build."""
