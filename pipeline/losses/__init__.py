"""What a training makes smaller: one file a loss, with its own backward pass where that is faster.

Imports no other room: a loss takes tensors and gives a number. Start with `distillation.py`, which is equation 1 of ScaLR.
"""
