"""The 3D networks, exact and sparse: WaffleIron, its heads, its kernels, and the authors' checkpoints both ways.

A student takes packed clouds (`packed.py`) and gives one feature for each point. It knows no plan and no store.

Imports `common`, `config` and `geometry`. Start with `waffleiron.py`, then `sparse_mix.py`.
"""
