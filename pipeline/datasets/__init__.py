"""From a dataset's files to records: scans, images, calibration, labels. One folder a dataset, found by its `reader.py`.

`reader.py` says what a reader must do, `records.py` what it gives, `index.py` finds out once what a tree holds. `town/` is the
toy town that each dataset's `toy.py` writes in its own format.

Imports `common`, `config`, and `geometry` for calibration. Start with `reader.py`.
"""
