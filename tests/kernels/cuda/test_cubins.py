"""The list of cubins: read strictly, held against bytes, and made from the sources that are here."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from kernels.cuda import cubins
from kernels.cuda.signatures import KERNELS
from kernels.errors import BackendMissing, CubinRefused

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "kernels/cubins.json").read_bytes()
LISTED = cubins.parse_list(TEXT)
BUILT = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def test_the_committed_list_was_made_from_these_sources():
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (ROOT / "kernels/cuda").iterdir()
        if path.suffix in {".cu", ".cuh"}
    }
    assert LISTED.sources == found, (
        "a source was changed: make cubins UPDATE=1, and commit kernels/cubins.json"
    )


def test_every_kernel_is_built_for_every_architecture_and_nothing_spills():
    assert LISTED.archs == BUILT
    for arch in BUILT:
        listed = {name for each in LISTED.cubins if each.arch == arch for name in each.kernels}
        assert listed == set(KERNELS)
    spilling = {
        name
        for each in LISTED.cubins
        for name, taken in each.kernels.items()
        if taken.spill_bytes or taken.stack_bytes
    }
    assert spilling <= set(LISTED.spills)
    assert all(taken.registers <= 255 for each in LISTED.cubins for taken in each.kernels.values())


def test_writing_is_the_inverse_of_reading():
    assert cubins.encode_list(LISTED).encode() == TEXT


def test_a_changed_cubin_is_refused():
    data = b"\x7fELF of some kernel"
    entry = cubins.Cubin("sm_90", "norm", hashlib.sha256(data).hexdigest(), len(data), {})
    listed = cubins.CubinList("c", (), {}, {}, (entry,))
    cubins.verify_cubin(listed, "sm_90", "norm", data)
    with pytest.raises(CubinRefused, match=r"expected SHA-256 .* it was changed or is of another release"):
        cubins.verify_cubin(listed, "sm_90", "norm", data[:-1] + b"L")
    with pytest.raises(CubinRefused, match="expected loss for sm_90 on the list of cubins"):
        cubins.verify_cubin(listed, "sm_90", "loss", data)
    with pytest.raises(CubinRefused, match="expected norm for sm_80"):
        cubins.verify_cubin(listed, "sm_80", "norm", data)


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b'"version": 1', b'"version": 2'),
        (b'"version": 1', b'"version": 1.0'),
        (b'"version": 1', b'"version": true'),
        (b'"version": 1,', b'"version": 1,\n"more": 0,'),
        (b'"version": 1,', b'"version": 1,\n"version": 1,'),
        (b'"arch": "sm_80"', b'"arch": "sm_80/../.."'),
        (b'"source": "norm"', b'"source": "../norm"'),
        (b'"sha256": "', b'"sha256": "0'),
        (b'"size": ', b'"size": -'),
        (b'"options": [', b'"options": [7,'),
        (b'"kernels": {', b'"kernels": {"x": [1, 2, 3],'),
        (b"{\n", b"{ \n"),
        (b"}\n", b"}\n\n"),
    ],
)
def test_a_list_in_another_spelling_is_refused(there, instead):
    changed = TEXT.replace(there, instead, 1) if there != b"}\n" else TEXT + b"\n"
    assert changed != TEXT
    with pytest.raises(CubinRefused, match="list of cubins: expected"):
        cubins.parse_list(changed)


def test_no_byte_of_the_list_can_be_cut_off_or_made_strange():
    for end in range(0, len(TEXT), 997):
        with pytest.raises(CubinRefused):
            cubins.parse_list(TEXT[:end])
    for text in (b"[" * 100_000, b"null", b"[]", b"\xff", b"0" * (cubins.MAX_LIST_BYTES + 1)):
        with pytest.raises(CubinRefused):
            cubins.parse_list(text)


@pytest.mark.parametrize(
    ("capability", "arch"),
    [
        *(((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 7), "sm_86"), ((8, 9), "sm_89"), ((9, 0), "sm_90")),
        *(((10, 0), "sm_100"), ((10, 3), "sm_100"), ((12, 0), "sm_120"), ((12, 1), "sm_120")),
    ],
)
def test_a_card_runs_the_newest_cubin_of_its_generation(capability, arch):
    assert cubins.arch_for(capability, BUILT) == arch


@pytest.mark.parametrize("capability", [(7, 5), (11, 0), (13, 0)])
def test_a_card_without_its_architecture_is_told_which_are_built(capability):
    with pytest.raises(BackendMissing, match=re.escape("sm_80, sm_86, sm_89, sm_90, sm_100, sm_120")):
        cubins.arch_for(capability, BUILT)


def test_no_part_of_the_packages_that_run_names_a_compiler():
    """Nothing is compiled where kernels run: no NVRTC, and none of CuPy's ways to compile by itself."""
    compiling = r"nvrtc|RawKernel|RawModule\(code|ElementwiseKernel|ReductionKernel|cupyx\.jit|cupy\.fuse"
    for package in ("kernels", "appliance"):
        for path in (ROOT / package).rglob("*.py"):
            if (ROOT / "appliance/cubins") not in path.parents:
                assert not re.search(compiling, path.read_text(encoding="utf-8")), path
