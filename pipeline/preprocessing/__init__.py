"""What fills the cache: scans, labels, views, full scans and features, one partition after the other, lot by lot.

`lots.py` does a lot, whatever its stage; `fill.py` says what computes its partitions; the other files compute them.

Imports `common`, `config`, `datasets`, `geometry`, `plan` and `teachers`. Start with `fill.py`.
"""
