"""The errors of the kernels.

    KernelError          1   anything below
    └── BackendMissing   1   no backend of that name, or its parts are not installed

Exit codes repeat the table of `appliance/errors.py`, because this package imports nothing of ours.
"""

from __future__ import annotations

from typing import ClassVar


class KernelError(Exception):
    """Root of every error the kernels raise on purpose."""

    exit_code: ClassVar[int] = 1


class BackendMissing(KernelError):
    """No backend of that name exists here."""
