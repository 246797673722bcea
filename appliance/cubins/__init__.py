"""Builds the CUDA kernels where a release is made: compiler, list and signature.

No process of an appliance loads it.
"""
