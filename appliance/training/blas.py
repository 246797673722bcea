"""The environment in which NumPy's matrix products run at full speed and repeat to the bit.

One thread: the trainer itself puts several cores to work (`lanes`), with one meeting per step instead of one
per product, which on busy cores is several times faster, and with bits that do not depend on their number.
For the custodian, which builds the environment of a worker before NumPy is imported there; so this module
imports nothing. Some OpenBLAS builds inside NumPy wheels take AMD's Zen 5 for a Haswell and use half of its
vector width (2000 x 2000 float32 on 2 cores: 248 against 445 GFLOP/s); naming the core mends it.
"""

from __future__ import annotations

_WIDE_VECTORS = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})  # what SkylakeX needs
_ZEN5_FAMILY = 26
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


def blas_environment(cpuinfo: str) -> dict[str, str]:
    """Return the variables to set, given the text of /proc/cpuinfo.

    Never names a core whose instructions the text does not list: that would end in SIGILL.
    """
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())  # the first processor speaks for all
    family = facts.get("cpu family", "")
    is_zen5 = facts.get("vendor_id") == "AuthenticAMD" and family.isdecimal() and int(family) >= _ZEN5_FAMILY
    if is_zen5 and set(facts.get("flags", "").split()) >= _WIDE_VECTORS:
        return {**_ONE_THREAD, "OPENBLAS_CORETYPE": "SkylakeX"}
    return dict(_ONE_THREAD)
