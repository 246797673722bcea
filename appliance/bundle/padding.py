"""Padme padding: the size of a bundle tells at most a few bits about its content.

A length L is rounded up so that only its top floor(log2(floor(log2 L)))+1 significant bits may differ from
zero: the leak is O(log log L) bits, the overhead at most 12 %, falling as L grows.
Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs",
PETS 2019, section 4.
"""

from __future__ import annotations


def padme(length: int) -> int:
    """Return the padded length in bytes for a content of `length` bytes."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    kept_bits = exponent.bit_length()
    mask = (1 << (exponent - kept_bits)) - 1 if exponent > kept_bits else 0
    return (length + mask) & ~mask
