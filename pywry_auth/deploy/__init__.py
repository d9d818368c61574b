"""Many users, many workers: the routes, their sessions and the guards."""
