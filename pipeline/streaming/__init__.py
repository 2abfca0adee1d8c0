"""From stores to batches, in worker processes: the order of the scans, what is read of each, and how it is augmented.

Views for pretraining (`view_*.py`, `all_cameras.py`), whole scans for probes and finetunings (`scan_*.py`), and the points that
cameras see for the teacher's own probe. `order.py` is pure arithmetic.

Imports `common`, `config`, `geometry`, `plan` for what is to be read, `teachers` for sampling, and `students` for packing. Start
with `view_batches.py`.
"""
