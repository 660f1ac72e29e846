"""Ways to read a person's own files."""
