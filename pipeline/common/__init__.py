"""What every room needs and none is about: lines of a log, progress, threads, draws that are pure functions of their keys,
names of files, and files of weights with what they carry to check themselves.

Imports no other room. Start with `random.py`: every random choice in Griddle goes through it.
"""
