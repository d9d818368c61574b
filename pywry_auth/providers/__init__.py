"""Authorization servers: a class for each provider."""
