"""The frozen image networks."""
