"""`make cubins`: the same bytes each time, held against the list, signed; nothing half-built stays."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.bundle.signer import SignerKey, save_signer
from appliance.cubins import build, nvrtc
from appliance.cubins.__main__ import KERNELS, main
from appliance.errors import ContentRefused, DeviceMissing, IntegrityError
from audit.errors import BadSignature
from audit.note import verify_note
from kernels.cuda.cubins import parse_list
from kernels.cuda.signatures import Kernel

PAIR = ("sm_80", "sm_90")
SMALL = ("cast", "length")
COMMITTED = parse_list((KERNELS / "cubins.json").read_bytes())


@pytest.fixture(scope="module")
def compiler():
    try:
        return nvrtc.Compiler()
    except DeviceMissing as missing:
        pytest.skip(f"no cubins are built: {missing}")


@pytest.fixture
def sources():
    found = build.read_sources(KERNELS / "cuda")
    return replace(found, sources={name: found.sources[name] for name in SMALL})


def test_two_builds_are_equal_to_the_byte_and_to_the_list(compiler, sources):
    first, second = (build.build(compiler, sources, PAIR) for _ in range(2))
    assert first.data == second.data
    for each in first.listed.cubins:
        assert each == COMMITTED.find(each.arch, each.source)


ELSEWHERE = """
import sys, hashlib
from pathlib import Path
from appliance.cubins import build, nvrtc
found = build.read_sources(Path(sys.argv[1]))
made = nvrtc.Compiler().compile("cast.cu", found.sources["cast"], found.headers, "sm_90")
print(hashlib.sha256(made.data).hexdigest())
"""


def test_neither_folder_nor_environment_enters_a_cubin(compiler, tmp_path):
    for name in ("cast.cu", "rows.cuh", "device.cuh"):
        (tmp_path / name).write_bytes((KERNELS / "cuda" / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, tmp_path],
        cwd=tmp_path,
        env={**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == COMMITTED.find("sm_90", "cast").sha256


def test_a_source_with_an_error_or_a_warning_is_refused(compiler, sources):
    for text, told in (
        (b'extern "C" __global__ void f(float* p) { p[0] = q; }', 'identifier "q" is undefined'),
        (b'extern "C" __global__ void f(float* p) { int unused; p[0] = 1; }', "unused"),
    ):
        with pytest.raises(ContentRefused, match=told):
            compiler.compile("f.cu", text, {}, "sm_80")


def test_kernels_that_no_signature_names_are_refused(compiler, sources):
    odd = sources.sources["cast"] + b'\nextern "C" __global__ void odd() {}\n'
    with pytest.raises(ContentRefused, match=r"only: odd"):
        build.build(compiler, replace(sources, sources={"cast": odd}), ("sm_80",))


def test_a_kernel_that_keeps_things_in_local_memory_is_refused_unless_explained(compiler, monkeypatch):
    greedy = b'extern "C" __global__ void greedy(float* p, int n) { float a[64];\n'
    greedy += (
        b"for (int i = 0; i < 64; i++) a[i] = p[i];\nfor (int i = 0; i < 64; i++) p[i] = a[(i * n) & 63]; }"
    )
    monkeypatch.setattr(build, "KERNELS", {"greedy": Kernel("greedy", (("p", "p"), ("n", "i")))})
    only = build.Sources({"greedy": greedy}, {})
    with pytest.raises(
        ContentRefused, match="greedy for sm_80: expected nothing in local memory, found 256 bytes"
    ):
        build.build(compiler, only, ("sm_80",))
    monkeypatch.setattr(build, "SPILLS", {"greedy": "shows what is refused"})
    built = build.build(compiler, only, ("sm_80",))
    assert built.listed.spills == {"greedy": "shows what is refused"}


def test_where_a_build_differs_nothing_is_written(compiler, sources, tmp_path):
    built = build.build(compiler, sources, ("sm_80",))
    with pytest.raises(
        IntegrityError, match="norm for sm_80: the cubin is not the one of the list"
    ) as refused:
        build.write(built, COMMITTED, tmp_path / "out")
    assert "norm.cu: the source is not the one of the list" in str(refused.value)
    assert "make cubins UPDATE=1" in str(refused.value)
    assert not (tmp_path / "out").exists()
    build.write(built, built.listed, tmp_path / "out")
    for (arch, source), data in built.data.items():
        assert (tmp_path / "out" / arch / f"{source}.cubin").read_bytes() == data


def test_the_signed_list_is_believed_with_its_key_and_not_otherwise(tmp_path):
    key, other = (SignerKey.from_seed(name, bytes([n]) * 32) for n, name in enumerate(("release", "other")))
    note = build.sign(COMMITTED, key.note, tmp_path).read_bytes()
    assert parse_list(verify_note(note, [key.vkey]).text.encode()) == COMMITTED
    for data, known in ((note, other.vkey), (note.replace(b"sm_80", b"sm_81", 1), key.vkey)):
        with pytest.raises(BadSignature):
            verify_note(data, [known])


def test_the_command_builds_what_the_list_says_and_signs_it(compiler, tmp_path, capsys, monkeypatch):
    """Over one small source, so that it takes a moment: `make cubins` goes over all."""
    secret, _ = save_signer(tmp_path, SignerKey.from_seed("release", b"7" * 32))
    (tmp_path / "kernels/cuda").mkdir(parents=True)
    for name in ("cast.cu", "rows.cuh", "device.cuh"):
        (tmp_path / "kernels/cuda" / name).write_bytes((KERNELS / "cuda" / name).read_bytes())
    monkeypatch.setattr("appliance.cubins.__main__.KERNELS", tmp_path / "kernels")
    out = ["--out", str(tmp_path / "out")]
    assert main([*out, "--update"]) == 0
    assert f"{len(build.ARCHS)} cubins for sm_80" in capsys.readouterr().out
    asked = [*out, "--arch", "sm_90", "--sign-key", str(secret)]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "1 cubins for sm_90" in told
    assert "signed by release" in told
    assert (tmp_path / "out" / build.NOTE).exists()
    secret.chmod(0o644)
    assert main(asked) == IntegrityError.exit_code
    assert "others may have read it" in capsys.readouterr().err
    with (tmp_path / "kernels/cuda/cast.cu").open("a") as source:
        source.write("// changed\n")
    assert main([*out, "--arch", "sm_90"]) == IntegrityError.exit_code
    assert "cast.cu: the source is not the one of the list" in capsys.readouterr().err


def test_without_the_compiler_the_command_says_where_it_comes_from(monkeypatch, capsys):
    monkeypatch.setattr(nvrtc, "PACKAGE", "no-such-compiler")
    assert main([]) == DeviceMissing.exit_code
    assert "`make cubins` installs it from requirements/cubins.txt" in capsys.readouterr().err


def test_another_version_of_the_compiler_is_refused(compiler, monkeypatch):
    monkeypatch.setattr(nvrtc, "VERSION", "13.9.9")
    with pytest.raises(DeviceMissing, match=r"expected the package nvidia-cuda-nvrtc 13\.9\.9, found 13\.0"):
        nvrtc.Compiler()


def test_the_pinned_version_is_the_locked_one():
    lock = (Path(__file__).parents[2] / "requirements/cubins.txt").read_text(encoding="utf-8")
    assert lock.startswith(f"{nvrtc.PACKAGE}=={nvrtc.VERSION} \\")
    assert f"{nvrtc.PACKAGE} {nvrtc.VERSION}" == COMMITTED.compiler
