"""A stick that is pulled during an import costs the parts that were missing, and is read once for each."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.bundle.create import create_bundle
from appliance.bundle.names import TEXT
from appliance.bundle.signer import load_signer
from appliance.bundle.stream import bytes_member
from tests.processes.conftest import Template
from tests.processes.living import Living, run

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount"),
]


@pytest.fixture
def stick(template: Template, tmp_path: Path) -> Path:
    """A bundle of several parts."""
    text = b"".join(b"line %d of a text\n" % number for number in range(1500))
    return create_bundle(
        [bytes_member("corpus/long/a.txt", TEXT, text)],
        kind="corpus",
        to=(template.public / "transfer.recipient").read_text().strip(),
        sign=load_signer(template.folder / "researcher.key"),
        out_dir=tmp_path,
        channel="lab",
        seq=9,
        now=datetime.now(tz=UTC),
        part_bytes=8192,
    )


@contextlib.contextmanager
def silent(path: Path) -> Iterator[None]:
    """Put a file in a part's place that the kernel answers with EIO, as it does when a device is gone.

    It is another process's memory at an address where nothing is: a regular file to whoever looks at it.
    """
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            mounted = run("mount", "--bind", f"/proc/{process.pid}/mem", path)
            if mounted.returncode:
                pytest.skip(f"nothing can be mounted here: {mounted.stderr}")
            try:
                yield
            finally:
                assert run("umount", path).returncode == 0
        finally:
            process.terminate()


def test_a_pulled_stick_is_gone_on_with_and_read_once(living: Living, stick: Path):
    assert len(list(stick.glob("p*.age"))) > 3
    with silent(stick / "p0002.age"):
        pulled = living.cli("import", stick)
    assert pulled.returncode == 4, pulled.stderr
    assert "insert the same one again" in pulled.stderr
    (kept,) = (living.home / "quarantine").iterdir()
    assert {path.name for path in kept.glob("p*.age")} == {"p0000.age", "p0001.age"}
    # Whoever has the stick now cannot change what was copied, nor has the appliance look again.
    for name in ("p0000.age", "p0001.age"):
        (stick / name).write_bytes(bytes((stick / name).stat().st_size))
    done = living.cli("import", stick)
    assert done.returncode == 0, done.stderr
    assert "long" in done.stdout
    living.demand_nothing_half_written()
