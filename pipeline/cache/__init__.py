"""An existing cache: opened for anyone, listed, verified, explained, and cleaned.

`open_cache.py` needs no config; `verify.py`, `garbage.py` and `listing.py` compare with a plan; `inspect.py` says what any file
of ours is.

Imports `common`, `config`, `datasets`, `plan`, and `teachers` to compute images again. Start with `open_cache.py`.
"""
