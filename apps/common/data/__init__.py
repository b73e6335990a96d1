"""What a user has: files of every kind, read and checked, as examples in splits."""
