"""The errors of the kernels.

    KernelError          1   anything below
    ├── BackendMissing   1   no backend of that name, or its parts are not installed
    ├── ThreadsRefused   2   zero threads, or more than this process has cores
    ├── ArrayRefused     1   an array of another shape, dtype or layout than the op takes
    ├── CubinRefused     6   a compiled kernel, or the list of them, is not what was signed
    ├── DeviceFull       5   the memory of a card does not suffice
    └── DeviceFailed     1   a card reported an error; names the kernel that was launched last

Exit codes repeat the table of `appliance/errors.py`, because this package imports nothing of ours.
"""

from __future__ import annotations

from typing import ClassVar


class KernelError(Exception):
    """Root of every error the kernels raise on purpose."""

    exit_code: ClassVar[int] = 1


class BackendMissing(KernelError):
    """No backend of that name exists here."""


class ThreadsRefused(KernelError):
    """The number of threads cannot be had on this machine."""

    exit_code = 2


class ArrayRefused(KernelError):
    """An array does not fit the op; the caller, never a user, is at fault."""


class CubinRefused(KernelError):
    """A compiled kernel or the signed list of them was changed, or the list is signed by somebody else."""

    exit_code = 6


class DeviceFull(KernelError):
    """Device memory does not suffice."""

    exit_code = 5


class DeviceFailed(KernelError):
    """A card or its driver reported an error."""
