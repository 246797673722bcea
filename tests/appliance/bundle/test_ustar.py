"""One tar form is written and nothing else is read."""

import io
import subprocess
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import ustar
from appliance.errors import ContentRefused

NAMES = st.from_regex(r"[a-z0-9_]{1,9}(/[a-z0-9_]{1,9}){0,3}", fullmatch=True).filter(
    lambda name: (
        not any(
            word in ("con", "nul", "aux", "prn") or word[:3] in ("com", "lpt") for word in name.split("/")
        )
    )
)


@given(NAMES, st.integers(0, ustar.MAX_SIZE))
def test_header_is_read_back(name, size):
    assert ustar.parse_header(ustar.header(name, size)) == (name, size)


def test_every_flipped_byte_of_a_header_is_refused():
    block = ustar.header("corpus/a/one.txt", 1234)
    for at in range(len(block)):
        for bit in (1, 0x20, 0x80):
            broken = bytearray(block)
            broken[at] ^= bit
            with pytest.raises(ContentRefused):
                ustar.parse_header(bytes(broken))


def test_python_and_tar_read_what_we_write(tmp_path):
    data = b"x" * 700
    archive = ustar.header("a/b.txt", len(data)) + data + bytes(ustar.tail_bytes(len(data)) + ustar.END_BYTES)
    assert len(archive) == ustar.archive_bytes([len(data)])
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        info = read.getmember("a/b.txt")
    assert (info.size, info.mode, info.uid, info.mtime, info.type) == (700, 0o644, 0, 0, tarfile.REGTYPE)
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive, check=True)
    assert (tmp_path / "a" / "b.txt").read_bytes() == data


def foreign_header(**changed: object) -> bytes:
    info = tarfile.TarInfo("a.txt")
    for name, value in changed.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.USTAR_FORMAT)[: ustar.BLOCK]


@pytest.mark.parametrize(
    "changed",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "b"},
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.FIFOTYPE},
        {"mode": 0o4755},
        {"uid": 1000},
        {"mtime": 1},
        {"uname": "root"},
        {"name": "../a.txt"},
        {"name": "/a.txt"},
        {"name": "a//b.txt"},
        {"name": "d/" * 60 + "a.txt"},
    ],
)
def test_links_devices_owners_and_climbing_names_are_refused(changed):
    with pytest.raises(ContentRefused):
        ustar.parse_header(foreign_header(**changed))


def test_member_beyond_eleven_octal_digits_is_refused():
    with pytest.raises(ContentRefused, match="split it into shards"):
        ustar.header("a.txt", ustar.MAX_SIZE + 1)


def test_short_header_is_refused():
    with pytest.raises(ContentRefused, match="expected 512 bytes, found 511"):
        ustar.parse_header(bytes(511))


def test_sizes_in_other_notations_are_refused():
    block = bytearray(ustar.header("a.txt", 8))
    block[124:136] = b"\x80" + bytes(10) + b"\x08"
    with pytest.raises(ContentRefused, match="octal digits"):
        ustar.parse_header(bytes(block))
