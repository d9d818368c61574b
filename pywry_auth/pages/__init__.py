"""Every page that people see: one design, and one way to make HTML."""
