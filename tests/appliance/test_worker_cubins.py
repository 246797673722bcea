"""A changed cubin or list stops whatever wanted it, before any byte of it is handed on."""

from __future__ import annotations

import hashlib

import pytest

from appliance.errors import Incomplete, SignatureError
from appliance.worker.cubins import NOTE, load_cubins
from audit.note import NoteSigner, sign_note
from kernels.cuda.cubins import Cubin, CubinList, encode_list
from kernels.cuda.signatures import KERNELS
from kernels.errors import BackendMissing, CubinRefused

SOURCES = sorted({kernel.source for kernel in KERNELS.values()})
HOPPER = (9, 0)


def signer_of(seed: bytes) -> NoteSigner:
    return NoteSigner("release.example/cubins", seed)


RELEASE = signer_of(bytes(range(32)))


@pytest.fixture
def folder(tmp_path):
    """Cubins for two architectures, and their list, signed."""
    entries = []
    for arch in ("sm_80", "sm_90"):
        (tmp_path / arch).mkdir()
        for source in SOURCES:
            data = f"{arch} {source}".encode()
            (tmp_path / arch / f"{source}.cubin").write_bytes(data)
            entries.append(Cubin(arch, source, hashlib.sha256(data).hexdigest(), len(data), {}))
    listed = CubinList("nvidia-cuda-nvrtc 13.0.88", ("--std=c++17",), {}, {}, tuple(entries))
    (tmp_path / NOTE).write_bytes(sign_note(encode_list(listed), [RELEASE]))
    return tmp_path


def test_every_cubin_that_the_card_needs_is_returned_as_it_was_hashed(folder):
    loaded = load_cubins(folder, RELEASE.vkey, HOPPER)
    assert loaded == {source: f"sm_90 {source}".encode() for source in SOURCES}
    assert load_cubins(folder, RELEASE.vkey, (8, 6))["norm"] == b"sm_80 norm"


@pytest.mark.parametrize("source", SOURCES[:2])
def test_a_changed_cubin_is_refused(folder, source):
    path = folder / "sm_90" / f"{source}.cubin"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CubinRefused, match=f"cubin {source} for sm_90: expected SHA-256"):
        load_cubins(folder, RELEASE.vkey, HOPPER)


def test_a_cubin_of_another_architecture_in_its_place_is_refused(folder):
    (folder / "sm_80/norm.cubin").replace(folder / "sm_90/norm.cubin")
    with pytest.raises(CubinRefused, match="cubin norm for sm_90"):
        load_cubins(folder, RELEASE.vkey, HOPPER)


def test_a_changed_list_is_refused_before_a_cubin_is_read(folder):
    note = bytearray((folder / NOTE).read_bytes())
    at = note.index(b'"sha256": "') + 12
    note[at] = note[at] ^ 1
    (folder / NOTE).write_bytes(note)
    for arch in ("sm_80", "sm_90"):
        for path in (folder / arch).iterdir():
            path.unlink()
    with pytest.raises(SignatureError, match=r"expected a list of cubins signed by release\.example/cubins"):
        load_cubins(folder, RELEASE.vkey, HOPPER)


def test_a_list_that_somebody_else_signed_is_refused(folder):
    with pytest.raises(SignatureError, match="ask who had write access"):
        load_cubins(folder, signer_of(bytes(32)).vkey, HOPPER)


@pytest.mark.parametrize("name", [NOTE, "sm_90/norm.cubin"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(Incomplete, match=name.split("/")[-1]):
        load_cubins(folder, RELEASE.vkey, HOPPER)


def test_a_card_that_nothing_was_built_for_is_told_what_was(folder):
    with pytest.raises(BackendMissing, match=r"expected a card of one of sm_80, sm_90.*capability 7\.5"):
        load_cubins(folder, RELEASE.vkey, (7, 5))
