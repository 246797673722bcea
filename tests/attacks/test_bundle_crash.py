"""Killed at any system call, a bundle that is made or opened is absent or unfinished, and then goes on.

A sample of the calls; `make crash` takes every one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.bundle.folder import BundleFolder
from appliance.bundle.manifest import target_of
from appliance.bundle.open import read_manifest
from appliance.bundle.trust import anyone_of
from appliance.errors import ApplianceError

from .bundle_maker import IDENTITY, SIGNER, TEXT_BYTES, make, open_it

STRACE = shutil.which("strace")
CALLS = "openat,write,pwrite64,fsync,rename,renameat,mkdir,mkdirat,unlink,unlinkat,rmdir,chmod"
EVERY = os.environ.get("CRASH_EVERY_POINT")
SAMPLE = {"make": (3, 19, 34, 49, 61), "open": (2, 11, 18, 24)}


def traced(work: str, folder: Path, *inject: str) -> subprocess.CompletedProcess[str]:
    """Run the maker under strace, counting only calls that name the folder or a descriptor beneath it."""
    root = str(Path(__file__).parents[2])
    program = [sys.executable, "-c", "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); " + RUN, root]
    command = [str(STRACE), "-f", "-qq", "-y", "-e", f"trace={CALLS}", *inject, *program, work, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


RUN = "runpy.run_module('tests.attacks.bundle_maker', run_name='__main__')"


@pytest.fixture(scope="module")
def points(tmp_path_factory) -> dict[str, list[tuple[str, int]]]:
    """Every call of an undisturbed run that touches the folder, as (name, how many of that name before)."""
    if STRACE is None:
        pytest.skip("strace is not installed: nothing is killed at a system call")
    folder = tmp_path_factory.mktemp("points")
    found: dict[str, list[tuple[str, int]]] = {}
    for work in ("make", "open"):
        done = traced(work, folder)
        if "PTRACE" in done.stderr:
            pytest.skip("strace may not trace here: nothing is killed at a system call")
        assert done.returncode == 0, done.stderr
        counts: dict[str, int] = {}
        found[work] = []
        for line in done.stderr.splitlines():
            call = re.match(r"(?:\[pid +\d+\] )?(\w+)\(", line)
            if call is None:
                continue
            counts[call[1]] = counts.get(call[1], 0) + 1
            if str(folder) in line and "O_RDONLY" not in line:
                found[work].append((call[1], counts[call[1]]))
    return found


def chosen(work: str, points: dict[str, list[tuple[str, int]]]) -> list[tuple[str, int]]:
    whole = points[work]
    return whole if EVERY else [whole[at % len(whole)] for at in SAMPLE[work]]


def is_whole(bundle: Path) -> bool:
    try:
        with BundleFolder.open(bundle) as folder:
            read_manifest(folder, anyone_of([SIGNER.vkey]), target_of(IDENTITY.recipient.text))
    except ApplianceError:
        return False
    return True


def killed_at(work: str, folder: Path, call: str, when: int) -> None:
    done = traced(work, folder, "-e", f"inject={call}:signal=KILL:when={when}")
    # With two threads a call may be counted in another one: then the run ends by itself.
    assert done.returncode in (0, -9, 137), done.stderr


@pytest.mark.timeout(600)
def test_a_bundle_whose_making_was_killed_is_gone_on_with(points, tmp_path):
    for number, (call, when) in enumerate(chosen("make", points)):
        folder = tmp_path / str(number)
        folder.mkdir()
        killed_at("make", folder, call, when)
        before = {path.name: path.read_bytes() for path in folder.glob("*.bundle/p*.age")}
        finished = [path for path in folder.glob("*.bundle") if is_whole(path)]
        if not finished or list(folder.glob("*.bundle/unfinished.json")):
            make(folder)
        whole = [path for path in folder.glob("*.bundle") if is_whole(path)]
        assert len(whole) == 1, (call, when)
        assert not (whole[0] / "unfinished.json").exists()
        for path in folder.glob("*.bundle"):  # what was killed before its journal holds nothing of worth
            if path not in whole:
                assert not list(path.glob("p*.age")), (call, when)
                shutil.rmtree(path)
        complete = sorted(before)[:-1]  # the last one may have been cut off
        assert all((whole[0] / name).read_bytes() == before[name] for name in complete), (call, when)
        open_it(folder)
        assert (folder / "out/corpus/a/a.txt").read_bytes() == TEXT_BYTES


@pytest.mark.timeout(600)
def test_a_bundle_whose_opening_was_killed_opens_to_the_same_bytes(points, tmp_path):
    for number, (call, when) in enumerate(chosen("open", points)):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder)
        killed_at("open", folder, call, when)
        if not (folder / "out").exists():
            open_it(folder)
        assert (folder / "out/corpus/a/a.txt").read_bytes() == TEXT_BYTES, (call, when)
