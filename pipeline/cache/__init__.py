"""An existing cache: opened for anyone, listed, verified, explained, and cleaned.

`open_cache.py` needs no config; `verify.py`, `verify_sources.py`, `recompute.py`, `garbage.py` and `listing.py` compare with a plan; `inspect.py` says what any file
of ours is.

Imports `common`, `config`, `datasets`, `plan`; and `geometry`, `preprocessing` and `teachers` to compute scans and images
again. Start with `open_cache.py`.
"""
