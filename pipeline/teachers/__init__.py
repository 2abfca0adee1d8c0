"""Frozen image networks: loading weights, decoding images, the forward pass, and reading a patch grid at a pixel.

Imports `common`, `config` for the registry and the teacher's block, `datasets` for image files, and `geometry` for what cameras
see. Start with `loaded.py`; `flow.py` keeps the device busy, `sampling.py` is the published way from a pixel to a feature.
"""
