"""The CPU backend: C++ and OpenMP, compiled ahead of time for several instruction sets, one chosen at load.

`library` finds and opens the compiled part, `ops` fills the table of `kernels.table` with it. The C++ sources
lie in `src/`: `tile` (the innermost loop), `pack`, `gemm`, then one file per op.
"""
