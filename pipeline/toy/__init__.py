"""A small synthetic town."""
