"""What the runs came to: metrics gathered into rows, as a table for the terminal and as a page with curves. No torch, no zarr.

Imports `plan` for what was asked for, and `training` for the metrics file. Start with `gather.py`.
"""
