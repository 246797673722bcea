"""The CUDA kernels: sources, and the table that says how each is launched.

`*.cu` and `*.cuh` are compiled ahead of time (`docs/kernels.md`); nothing is compiled where they run.
"""
