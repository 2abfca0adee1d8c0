"""From points to pixels and voxels."""
