"""How training reaches bytes that lie sealed: opened into its own buffers, sealed from its own buffers.

Whoever holds the key implements this pair (in the worker, `appliance/worker/port.py`); training knows no key
and no file. The buffer is the caller's and already there, so plaintext lies nowhere else: memory of the host
or, for a pair that is bound to a device (`appliance/worker/device_opener.py`), also an array on it.
"""

from __future__ import annotations

from typing import Any, Protocol


class Opener(Protocol):
    """Sealed bytes that can be opened from any place, without the rest."""

    @property
    def size(self) -> int:
        """Plaintext bytes in all."""

    def open_into(self, buffer: Any, offset: int, /) -> None:
        """Fill the whole buffer with the plaintext that begins at byte `offset`.

        Every byte is verified or the call raises; what raises leaves zeros in the buffer.
        """


class Sealer(Protocol):
    """A new object that is sealed from its beginning to its end."""

    def seal_from(self, buffer: Any, /) -> None:
        """Seal the buffer's bytes behind those before; afterwards the buffer is the caller's again."""
