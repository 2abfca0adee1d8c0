"""Faults on purpose, counted: `python -m benchmarks.faults.NAME --count N --seed S` prints a line for each kind."""
