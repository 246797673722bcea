"""One canonical USTAR form: equal members give equal bytes, and nothing else is read back.

Guarantees to the importing worker: a header is accepted only if it is the very 512 bytes that this module
would have written for the name and size in it, so links, devices, sparse files, owners, times, prefixes,
extensions and checksums that differ between readers cannot occur. To the recipient: any `tar -x` opens it.
Source: POSIX.1-1988 ustar as in POSIX.1-2017 pax, section "ustar Interchange Format".
"""

from __future__ import annotations

from appliance.bundle.names import check_member_name
from appliance.errors import ContentRefused

BLOCK = 512
# Two zero blocks end an archive.
END_BYTES = 2 * BLOCK
# Eleven octal digits.
MAX_SIZE = 8**11 - 1

_NAME = 100
_SIZE_AT = 124
_SIZE_DIGITS = 11
_CHECKSUM_AT = 148
_EIGHT_SPACES = b" " * 8


def header(name: str, size: int) -> bytes:
    """Return the 512-byte header of a regular file: mode 0644, owner 0, time 0."""
    check_member_name(name)
    if not 0 <= size <= MAX_SIZE:
        raise ContentRefused(
            f"{name}: expected at most {MAX_SIZE} bytes in one member, found {size}; split it into shards"
        )
    fields = (
        name.encode("ascii").ljust(_NAME, b"\0"),
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % size,
        b"00000000000\0",
        _EIGHT_SPACES,
        b"0",
        bytes(100),
        b"ustar\x0000",
        bytes(32),
        bytes(32),
        b"0000000\0",
        b"0000000\0",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    checksum = b"%06o\0 " % sum(block)
    return block[:_CHECKSUM_AT] + checksum + block[_CHECKSUM_AT + 8 :]


def parse_header(block: bytes) -> tuple[str, int]:
    """Return the name and size in a header; raise ContentRefused unless it is canonical."""
    if len(block) != BLOCK:
        raise ContentRefused(f"tar header: expected {BLOCK} bytes, found {len(block)}")
    digits = block[_SIZE_AT : _SIZE_AT + _SIZE_DIGITS]
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise ContentRefused(f"tar header: expected {_SIZE_DIGITS} octal digits of size, found {digits!r}")
    try:
        name = block[:_NAME].rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError as error:
        raise ContentRefused("tar header: expected an ASCII name, found other bytes") from error
    size = int(digits, 8)
    if header(name, size) != block:
        raise ContentRefused(
            f"tar header of {name}: expected the canonical form (regular file, mode 0644, owner and time 0),"
            " found another; make the bundle with `appliance bundle create`"
        )
    return name, size


def tail_bytes(size: int) -> int:
    """Return how many zero bytes follow a member's content up to the next block."""
    return -size % BLOCK


def archive_bytes(sizes: list[int]) -> int:
    """Return the length in bytes of an archive of members of these sizes, its end included."""
    return sum(BLOCK + size + tail_bytes(size) for size in sizes) + END_BYTES
