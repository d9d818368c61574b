"""Many users, many workers: the blueprint, its sessions and the guards."""
