"""The losses, one file each, with a backward pass of their own where that is faster.

Imports no other room: a loss takes tensors and gives a number. Start with `distillation.py`, which is equation 1 of ScaLR.
"""
