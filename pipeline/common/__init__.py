"""What every room needs and none is about: lines of a log, progress, threads, names of files, and draws that are pure
functions of their keys.

Imports no other room. Start with `random.py`: every random choice in Griddle goes through it.
"""
