"""Attacks that anyone can run again: `python -m benchmarks.faults.hostile` prints what each kind of them came to."""
