"""A network appears while a model trains: keys gone, worker dead, entry written, sealed until told why.

Everything is real but the host, which is a set of namespaces of the test's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import NotIsolated, PolicyRefused
from tests.bed import unshare, works
from tests.jails import profile
from tests.processes.conftest import Template, checked, make_bundle, make_sources
from tests.processes.living import (
    PYTHON,
    Living,
    copy_home,
    descendants,
    eventually,
    is_alive,
    read_or_nothing,
)
from tests.processes.test_seal import found_in, memory

pytestmark = [
    pytest.mark.processes,
    pytest.mark.root,
    pytest.mark.skipif(not works(), reason="this host lets us make no namespaces with mounts of our own"),
    pytest.mark.skipif(profile() != "isolated", reason="this host does not let a jail hold as a whole"),
]


class Bed(Living):
    """An appliance on a host of its own."""

    def spawn(self, *prefix: str) -> subprocess.Popen[bytes]:
        with self.diagnostics.open("ab") as said:
            self.process = subprocess.Popen(
                [*unshare(), *prefix, *PYTHON, "appliance.custodian", str(self.home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        self._expect(b"ready\n")
        return self.process

    def happens(self, what: str) -> None:
        """Have something happen to the host."""
        assert self.process is not None
        self.process.stdin.write(f"{what}\n".encode())
        self.process.stdin.flush()
        self._expect(b"done\n")

    def _expect(self, line: bytes) -> None:
        assert self.process is not None
        found = self.process.stdout.readline()
        assert found == line, (found, self.diagnostics.read_text()[-3000:])

    def kill(self) -> None:
        process = self.process
        super().kill()
        if process is not None:
            process.stdin.close()
            process.stdout.close()

    def children(self, module: str) -> list[int]:
        """As any appliance's, without the bed, which has the custodian's command among its own words."""
        named = [pid for pid in super().children(module) if b"bed.py" not in read_or_nothing(_cmdline(pid))]
        return [pid for pid in named if pid != self.pid]

    def wait_for_fresh_process(self) -> None:
        """Wait until the custodian has become another program under the same pid, and answers."""
        exec_ed = lambda: b"--lock-fd" in read_or_nothing(_cmdline(self.custodian))  # noqa: E731
        eventually(lambda: exec_ed() and self._answers(), "the fresh process")
        assert self.call("Status")["sealed"]

    @property
    def custodian(self) -> int:
        """Its pid as the test sees it."""
        (pid,) = eventually(lambda: self.children("appliance.custodian"), "the custodian")  # none in mid-exec
        return pid


def _cmdline(pid: int) -> Path:
    return Path(f"/proc/{pid}/cmdline")


@pytest.fixture(scope="module")
def isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """A home of the isolated profile, and a bundle for it."""
    folder = tmp_path_factory.mktemp("isolated")
    canary = "canary of an isolated appliance, 7f2c9b"
    make_sources(folder, canary)
    (folder / "officers").touch()
    checked(*PYTHON, "appliance", "keygen", "signer", "researcher", "--out", folder)
    home = folder / "home"
    uid = 0 if os.getuid() else os.getuid()  # who is not root is root in the bed's user namespace
    checked(
        *(*PYTHON, "appliance", "--home", home, "init", "--profile", "isolated", "--custody", "file:"),
        *("--trust-signer", folder / "researcher.vkey", "--person", f"{uid}=ada"),
        *("--public", folder / "public", "--yes"),
    )
    bundle = make_bundle(folder, Path("first"), seq=1)
    appliance = Bed(home, folder / "public")
    try:
        appliance.start().unseal()
        checked(*PYTHON, "appliance", "--home", home, "import", bundle)
        appliance.call("Shutdown")
        eventually(lambda: not appliance.children("appliance.custodian"), "the custodian to end")
    finally:
        appliance.kill()
    yield Template(folder, home, folder / "public", bundle, canary)
    shutil.rmtree(folder)


@pytest.fixture
def bed(isolated_home: Template, tmp_path: Path) -> Iterator[Bed]:
    """An appliance of the isolated profile that trains."""
    appliance = Bed(copy_home(isolated_home.home, tmp_path / "home"), isolated_home.public)
    try:
        appliance.start().unseal()
        yield appliance
    finally:
        appliance.kill()


def entries_of(bed: Bed, kind: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in bed.entries().splitlines()]
    return [entry for entry in found if entry["kind"] == kind]


def test_a_cable_plugged_in_while_training_seals_the_appliance(bed: Bed):
    job = bed.train("endless")
    bed.wait_for(job, "checkpoint")
    custodian = bed.custodian
    workers = bed.children("appliance.worker")
    bed.happens("veth")
    eventually(lambda: not any(map(is_alive, workers)), "the worker to be dead")
    bed.wait_for_fresh_process()
    assert bed.custodian == custodian
    ended = bed.job(job)
    assert (ended["state"], ended["reason"]) == ("failed", "breach")
    (told,) = [said for said in bed.call("Status")["warnings"] if "breach of isolation" in said]
    with pytest.raises(PolicyRefused, match=r"a breach of isolation sealed this appliance \(log entry \d+\)"):
        bed.call("Unseal")
    with pytest.raises(NotIsolated, match="the host is not isolated \\(link there: veth"):
        bed.call("Unseal", {"reason": "nothing was done about it"})
    assert bed.call("Status")["sealed"]

    bed.happens("no-veth")
    assert bed.cli("unseal").returncode == PolicyRefused.exit_code
    opened = bed.cli("unseal", "--reason", "cable removed, port blocked")
    assert opened.returncode == 0, opened.stderr
    bed.resume(job)
    bed.wait_for(job, "checkpoint")
    assert not [said for said in bed.call("Status")["warnings"] if "breach" in said]
    bed.call("Seal", {"reason": "end"})
    eventually(lambda: len(entries_of(bed, "sealed")) == 2, "both sealings to be published")
    (breach,) = entries_of(bed, "breach")
    context = breach["context"]
    assert context["found"][0].startswith(("link there: veth", "device add: net /devices/virtual/net/veth"))
    assert context["profile"] == "isolated"
    assert 0 < context["keys_wiped_us"] <= context["workers_killed_us"]
    assert str(breach["seq"]) in told
    assert [entry["context"]["reason"] for entry in entries_of(bed, "sealed")] == ["breach", "end"]
    assert entries_of(bed, "unsealed")[-1]["context"]["reason"] == "cable removed, port blocked"
    bed.demand_sound_log()


def test_a_breach_while_sealed_is_no_loop_and_an_old_one_is_remembered(bed: Bed):
    bed.happens("veth")
    bed.wait_for_fresh_process()
    custodian = bed.custodian
    bed.happens("no-veth")
    bed.happens("veth")
    bed.happens("no-veth")
    assert not bed.call("Status")["isolated"] or bed.call("Status")["sealed"]
    assert bed.custodian == custodian
    bed.kill()
    bed.start()
    with pytest.raises(PolicyRefused, match="a breach of isolation sealed this appliance"):
        bed.call("Unseal")
    assert len(entries_of(bed, "breach")) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to read the memory of processes that forbid it")
def test_nothing_secret_is_left_anywhere_after_a_breach(bed: Bed, isolated_home: Template):
    keyring = bed.keyring()
    secrets = {
        "vault identity": bytes(keyring.vault_identity.secret()),
        "entry secret": bytes(keyring.entry_secret),
        "corpus": isolated_home.canary.encode(),
    }
    job = bed.train("endless")
    bed.wait_for(job, "checkpoint")
    worker, *_ = workers = bed.children("appliance.worker")
    assert found_in(list(memory(worker)), secrets["corpus"]), "the positive control"
    bed.happens("veth")
    eventually(lambda: not any(map(is_alive, workers)), "the worker to be dead")
    bed.wait_for_fresh_process()
    for pid in descendants(bed.pid):
        now = list(memory(pid))
        for name, secret in secrets.items():
            assert not found_in(now, secret), f"{name} is in the memory of {pid} after a breach"
    for path in bed.home.rglob("*"):
        if path.is_file():
            assert secrets["corpus"] not in path.read_bytes(), path
