"""Griddle on an NVIDIA GPU: what one run of six minutes measures (`python -m benchmarks.gpu`), and what can be told
without a GPU: how the kernels compile (`python -m benchmarks.gpu.kernels`), and the least time that a step can take
(`python -m benchmarks.gpu.floors`). docs/gpu.md holds the tables."""
