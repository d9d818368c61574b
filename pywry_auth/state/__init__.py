"""What the bytes mean: one store for each kind of record."""
