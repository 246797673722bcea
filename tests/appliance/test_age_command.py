"""`python -m appliance.age`: one life of a key, in both directions with the public program."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

AGE = shutil.which("age")
needs_age = pytest.mark.skipif(AGE is None, reason="the public age program is not installed")
SIZES = [0, 1, 65536, 200_000]


def ours(*arguments, data=b"", code=0):
    done = subprocess.run(
        [sys.executable, "-I", "-m", "appliance.age", *map(str, arguments)],
        input=data,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "key.txt"
    made = ours("keygen")
    path.write_bytes(made.stdout)
    return path, made.stderr.decode().removeprefix("Public key: ").strip()


def plain(size):
    return bytes(range(256)) * (size // 256 + 1)


@needs_age
@pytest.mark.parametrize("size", SIZES)
def test_the_public_program_opens_what_we_seal(key, size):
    path, recipient = key
    data = plain(size)[:size]
    sealed = ours("encrypt", "-r", recipient, data=data).stdout
    assert (
        subprocess.run([AGE, "-d", "-i", path], input=sealed, capture_output=True, check=True).stdout == data
    )


@needs_age
@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_the_public_program_seals(key, size):
    path, recipient = key
    data = plain(size)[:size]
    sealed = subprocess.run([AGE, "-r", recipient], input=data, capture_output=True, check=True).stdout
    assert ours("decrypt", "-i", path, data=sealed).stdout == data


@needs_age
def test_the_public_program_reads_our_identity_file(key):
    path, recipient = key
    done = subprocess.run(["age-keygen", "-y", path], capture_output=True, check=True)
    assert done.stdout.decode().strip() == recipient


def test_a_post_quantum_key_seals_and_opens(tmp_path):
    made = ours("keygen", "--hybrid")
    (tmp_path / "key").write_bytes(made.stdout)
    recipient = made.stderr.decode().split()[-1]
    assert recipient.startswith("age1pq1")
    sealed = ours("encrypt", "-r", recipient, data=b"text").stdout
    assert ours("decrypt", "-i", tmp_path / "key", data=sealed).stdout == b"text"


def test_a_full_output_has_its_exit_code(key):
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device
        done = subprocess.run(
            [sys.executable, "-I", "-m", "appliance.age", "encrypt", "-r", key[1]],
            input=plain(200_000),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 5
    assert done.stderr == (
        b"error: standard input or output failed: No space left on device; discard what was written\n"
    )


def test_every_failure_has_its_exit_code_and_one_line(key, tmp_path):
    path, recipient = key
    sealed = ours("encrypt", "-r", recipient, data=b"text").stdout
    (tmp_path / "other").write_bytes(ours("keygen").stdout)
    assert b"no match" in ours("decrypt", "-i", tmp_path / "other", data=sealed, code=19).stderr
    assert b"does not fit its tag" in ours("decrypt", "-i", path, data=sealed[:-1], code=6).stderr
    assert b"found: No such file" in ours("decrypt", "-i", tmp_path / "none", data=sealed, code=4).stderr
    assert b"key refused" in ours("encrypt", "-r", "age1x", code=2).stderr
    assert b"required: -r" in ours("encrypt", code=2).stderr
