"""An install bundle carries the commit's kernels, all of them, or is not made."""

from __future__ import annotations

import hashlib

import pytest

from appliance.bundle.signer import SignerKey
from appliance.cubins.build import NOTE, sign
from appliance.errors import Incomplete, IntegrityError
from appliance.release.cubins import carry_cubins
from kernels.cuda.cubins import Cubin, CubinList, encode_list

DATA = {("sm_80", "cast"): b"one", ("sm_90", "cast"): b"two"}
LISTED = CubinList(
    "c",
    (),
    {},
    {},
    tuple(
        Cubin(arch, source, hashlib.sha256(data).hexdigest(), len(data), {})
        for (arch, source), data in DATA.items()
    ),
)
TEXT = encode_list(LISTED).encode()
KEY = SignerKey.from_seed("release", b"1" * 32).note


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "built"
    for (arch, source), data in DATA.items():
        (folder / arch).mkdir(parents=True)
        (folder / arch / f"{source}.cubin").write_bytes(data)
    sign(LISTED, KEY, folder)
    return folder


def test_note_and_cubins_are_carried_and_nothing_beside_them(built, tmp_path):
    (built / "sm_80/other.cubin").write_bytes(b"left from another time")
    carry_cubins(built, TEXT, tmp_path / "to")
    carried = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*.*")}
    assert carried == {NOTE, "sm_80/cast.cubin", "sm_90/cast.cubin"}
    assert (tmp_path / "to/sm_90/cast.cubin").read_bytes() == b"two"


@pytest.mark.parametrize("name", [NOTE, "sm_90/cast.cubin"])
def test_what_was_not_built_is_named(built, tmp_path, name):
    (built / name).unlink()
    with pytest.raises(Incomplete, match=f"expected .*{name}, found none; first make cubins SIGN_KEY"):
        carry_cubins(built, TEXT, tmp_path / "to")


def test_a_cubin_or_a_list_of_another_commit_is_refused(built, tmp_path):
    with pytest.raises(IntegrityError, match="expected the list of this commit"):
        carry_cubins(built, TEXT.replace(b'"c"', b'"d"'), tmp_path / "to")
    (built / "sm_90/cast.cubin").write_bytes(b"too")
    with pytest.raises(IntegrityError, match="cubin cast for sm_90: expected SHA-256"):
        carry_cubins(built, TEXT, tmp_path / "to")
    (built / NOTE).write_bytes(b"no note")
    with pytest.raises(IntegrityError, match=r"cubins\.note: expected a signed list"):
        carry_cubins(built, TEXT, tmp_path / "to")
