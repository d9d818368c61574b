"""What native and deploy mode share: the two strokes of a login, and the life of its tokens."""
