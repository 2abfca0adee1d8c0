"""The 3D networks."""
