"""What the runs came to: metrics gathered into rows, as a table for the terminal and as a page with curves. No torch, no zarr.

Imports `common` for the names of files, `plan` for what was asked for and what runs recorded. Start with `gather.py`.
"""
