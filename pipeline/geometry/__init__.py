"""From points to pixels and cells: projection, voxels, neighbours, the student's planes, whole scans. Numpy and scipy alone.

`calibration.py` says what is known of a camera; it knows no dataset.

Imports `config` for the blocks that say how. Start with `projection.py`.
"""
