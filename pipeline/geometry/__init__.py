"""From points to pixels and cells: projection, voxels, neighbours, the student's planes, whole scans. Numpy and scipy alone.

Imports `config` for the blocks that say how, and `datasets` for calibration records and rigid steps. Start with
`projection.py`.
"""
