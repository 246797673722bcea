"""Trains, evaluates and samples byte-level GPT decoders over `kernels`.

Imports numbers only (kernels, NumPy, the standard library and `appliance.errors`): it runs on a laptop with
no vault, daemon or GPU. It opens no file and no path; whoever calls it hands over bytes and takes bytes.
"""
