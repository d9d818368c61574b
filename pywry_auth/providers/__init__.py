"""Authorization servers: one class per provider."""
