"""Memory for secrets: no other process reads it, no child has it, and after a wipe every use raises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.custody import secret_memory
from appliance.custody.keyring import Keyring
from appliance.custody.secret_memory import MEMFD_SECRET, MLOCK, SecretMemory
from appliance.errors import JailError, SealedError

SCANNER = """
import re, sys
pid, canary = int(sys.argv[1]), bytes(byte ^ 0x5A for byte in bytes.fromhex(sys.argv[2]))
found = 0
with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
    for begin, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", open(f"/proc/{pid}/maps").read(), re.M):
        try:
            mem.seek(int(begin, 16))
            found += mem.read(int(end, 16) - int(begin, 16)).count(canary)
        except (OSError, ValueError, OverflowError):
            pass
print(found)
"""
KINDS = [pytest.param(True, id=MEMFD_SECRET), pytest.param(False, id=MLOCK)]


def fresh(size=32):
    """A secret that was never an immutable object, and its mask for the scanner."""
    secret = bytearray(size)
    with open("/dev/urandom", "rb", buffering=0) as source:  # noqa: PTH123  readinto without a buffer between
        source.readinto(secret)
    return secret, bytes(byte ^ 0x5A for byte in secret).hex()


def seen_from_outside(masked):
    """How often another process of root finds the secret in this one's memory."""
    command = [sys.executable, "-I", "-c", SCANNER, str(os.getpid()), masked]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def make(*, memfd_secret):
    memory = SecretMemory(4096, memfd_secret=memfd_secret)
    if memfd_secret and memory.kind != MEMFD_SECRET:
        pytest.skip("this kernel has no memfd_secret (Linux 5.14, secretmem.enable)")
    assert memory.kind == (MEMFD_SECRET if memfd_secret else MLOCK)
    return memory


@pytest.mark.parametrize("memfd_secret", KINDS)
def test_what_is_taken_is_moved_and_not_copied(memfd_secret):
    memory = make(memfd_secret=memfd_secret)
    secret, _ = fresh()
    copy = bytearray(secret)
    piece = memory.take(secret)
    assert piece == copy
    assert secret == bytes(32)
    memory.wipe()


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to read this process's memory from another one")
def test_another_process_finds_a_bytearray_and_nothing_once_it_is_wiped():
    """The positive control of the two tests below."""
    secret, masked = fresh()
    assert seen_from_outside(masked) == 1
    secret[:] = bytes(32)
    assert seen_from_outside(masked) == 0


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to read this process's memory from another one")
@pytest.mark.parametrize("memfd_secret", KINDS)
def test_root_reads_locked_memory_and_no_secret_memory_and_nothing_after_a_wipe(memfd_secret):
    memory = make(memfd_secret=memfd_secret)
    secret, masked = fresh()
    memory.take(secret)
    assert seen_from_outside(masked) == (0 if memfd_secret else 1)
    memory.wipe()
    assert seen_from_outside(masked) == 0


@pytest.mark.parametrize("memfd_secret", KINDS)
def test_after_a_wipe_every_use_raises(memfd_secret):
    memory = make(memfd_secret=memfd_secret)
    piece = memory.take(bytearray(b"x" * 32))
    memory.wipe()
    memory.wipe()
    with pytest.raises(SealedError, match="this memory was wiped; unseal the vault"):
        memory.take(bytearray(32))
    with pytest.raises(ValueError, match="released"):
        bytes(piece)


def test_a_piece_that_is_being_read_is_zero_and_not_gone():
    memory = make(memfd_secret=False)
    piece = memory.take(bytearray(b"x" * 32))
    with memoryview(piece) as reading:
        memory.wipe()
        assert reading == bytes(32)


@pytest.mark.parametrize("memfd_secret", KINDS)
def test_it_is_locked_and_in_no_dump(memfd_secret):
    before = flags()
    memory = make(memfd_secret=memfd_secret)
    new = [text for where, text in flags().items() if where not in before]
    assert any({"lo", "dd"} <= set(text.split()) for text in new), new
    memory.wipe()


def flags():
    """The kernel's flags of each mapping: lo locked, dd not dumped."""
    text = Path("/proc/self/smaps").read_text()
    found, where = {}, ""
    for line in text.splitlines():
        if line.startswith("VmFlags:"):
            found[where] = line.removeprefix("VmFlags:")
        elif line.split()[0].count("-") == 1 and not line.split()[0].endswith(":"):
            where = line.split()[0]
    return found


CHILD = """
import os, sys
from appliance.custody.secret_memory import SecretMemory
memory = SecretMemory(4096, memfd_secret=sys.argv[1] == "True")
piece = memory.take(bytearray(b"x" * 32))
child = os.fork()
if not child:
    os._exit(len(bytes(piece)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("memfd_secret", KINDS)
def test_a_forked_child_has_none_of_it(memfd_secret):
    """Touching it there is a fault: SIGSEGV, -11."""
    make(memfd_secret=memfd_secret).wipe()
    command = [sys.executable, "-I", "-c", CHILD, str(memfd_secret)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "-11\n"


def test_no_room_is_an_error_and_overwrites_nothing():
    memory = make(memfd_secret=False)
    first = memory.take(bytearray(b"x" * 4000))
    with pytest.raises(ValueError, match="expected 200 bytes of room for a secret, found 96"):
        memory.take(bytearray(200))
    assert first == b"x" * 4000
    memory.wipe()


def test_memory_that_cannot_be_locked_is_refused(monkeypatch):
    class Refusing:
        @staticmethod
        def syscall(*_args):
            return -1

        @staticmethod
        def mlock(*_args):
            return -1

    monkeypatch.setattr(secret_memory, "_libc", Refusing)
    with pytest.raises(JailError, match="expected to lock 4096 bytes of memory for keys"):
        SecretMemory(4096)


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to read this process's memory from another one")
@pytest.mark.parametrize("hybrid", [False, True])
def test_a_keyring_in_use_is_found_by_no_other_process(hybrid):
    keyring = Keyring.generate(hybrid=hybrid)
    if keyring.memory_kind != MEMFD_SECRET:
        pytest.skip("this kernel has no memfd_secret (Linux 5.14, secretmem.enable)")
    masks = [
        bytes(byte ^ 0x5A for byte in secret).hex()
        for secret in (keyring.vault_identity.secret(), keyring.entry_secret, keyring.bundle_seed)
    ]
    assert keyring.vault_identity.recipient.text
    assert [seen_from_outside(masked) for masked in masks] == [0, 0, 0]
    keyring.wipe()
