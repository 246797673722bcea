"""What the vault guards is found nowhere outside it: not on the disk, in logs, argv or environments."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import ContentRefused
from tests.processes.conftest import Template
from tests.processes.living import PYTHON, Living, descendants, read_or_nothing

pytestmark = pytest.mark.processes


def encodings(canary: str) -> dict[str, bytes]:
    """The canary as it would look after the usual conversions; of base64, what no neighbour changes."""
    raw = canary.encode()
    found = {
        "raw": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "utf-16-le": canary.encode("utf-16-le"),
        "utf-16-be": canary.encode("utf-16-be"),
    }
    for shift in range(3):
        inner = raw[-shift % 3 :]  # the first letters share a group of three with what stands before
        text = base64.b64encode(inner[: len(inner) // 3 * 3])
        found[f"base64 at {shift}"] = text
        found[f"base64url at {shift}"] = text.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def find(canary: str, places: Iterator[tuple[str, bytes]]) -> list[str]:
    """Return where the canary was found, and in what encoding."""
    needles = encodings(canary)
    return [
        f"{where}: {name}" for where, data in places for name, needle in needles.items() if needle in data
    ]


def files_under(*roots: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of everything on disk; SQLite's own log files and leftovers are files as well."""
    for root in roots:
        for path in root.rglob("*"):
            yield f"name of {path}", str(path).encode()
            if path.is_file():
                yield str(path), path.read_bytes()


def files_in_shared_folders() -> set[Path]:
    """Where programs leave temporary files and shared memory."""
    folders = {Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")}  # noqa: S108  looked into, not used
    return {path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()}


def processes_of(pids: list[int]) -> Iterator[tuple[str, bytes]]:
    """What every user of the host may read of a process, or its own user may."""
    for pid in pids:
        for name in ("cmdline", "environ", "comm", "status"):
            yield f"{name} of {pid}", read_or_nothing(Path(f"/proc/{pid}/{name}"))


def test_the_canary_of_corpus_and_config_is_found_nowhere(living: Living, template: Template, tmp_path: Path):
    before = files_in_shared_folders()
    by_path = living.cli("train", template.folder / "tiny.toml", "--name", "by-path")
    assert by_path.returncode == 0, by_path.stderr
    job = living.train("endless")
    living.wait_for(job, "checkpoint")
    family = [living.pid, *descendants(living.pid)]
    assert len(family) >= 3  # custodian, front, worker
    assert find(template.canary, processes_of(family)) == []
    sample = living.cli("sample", "tiny", "--prompt", "The ", "--length", "8")
    assert sample.returncode == 0, sample.stderr
    said = by_path.stdout + by_path.stderr + living.cli("jobs", "--json").stdout
    assert find(template.canary, iter([("output", said.encode())])) == []
    assert find(template.canary, files_under(living.home)) == []  # in mid-training
    living.shutdown()
    assert find(template.canary, files_under(living.home)) == []
    new = files_in_shared_folders() - before
    assert find(template.canary, ((str(path), read_or_nothing(path)) for path in new)) == []


def test_a_config_that_is_refused_leaves_no_word_of_itself(living: Living, template: Template):
    """The parser quotes what it found; its words must stay in the jail, or be sealed."""
    wrong = f'"{template.canary}" = "{template.canary}"\n'.encode()
    config = os.memfd_create("config")
    try:
        os.write(config, wrong)
        with pytest.raises(ContentRefused, match="step 0") as told:
            living.call("Train", {"source_fd": 0, "source_name": "wrong"}, (config,))
    finally:
        os.close(config)
    assert find(template.canary, iter([("the refusal", str(told.value).encode())])) == []
    living.shutdown()
    assert find(template.canary, files_under(living.home)) == []


def test_the_canary_is_sealed_where_it_should_be(asleep: Living, template: Template):
    """The search above means nothing if the canary never came in."""
    asleep.start()
    sealed = {row["kind"]: row["id"] for row in asleep.objects()}
    for kind in ("corpus", "config"):
        assert template.canary.encode() in asleep.plaintext(sealed[kind])


@pytest.mark.parametrize("shift", range(3))
@pytest.mark.parametrize("name", sorted(encodings("x" * 20)))
def test_a_planted_canary_is_found(tmp_path: Path, template: Template, name: str, shift: int):
    """The positive control: every encoding, wherever in a line it begins."""
    prefix = "ab"[:shift]
    text = f"{prefix}{template.canary} and more"
    planted = {
        "raw": text.encode(),
        "hex": text.encode().hex().encode(),
        "HEX": text.encode().hex().upper().encode(),
        "utf-16-le": text.encode("utf-16-le"),
        "utf-16-be": text.encode("utf-16-be"),
    }
    whole = base64.b64encode(text.encode())
    (tmp_path / "deep").mkdir()
    data = planted.get(name, whole if "url" not in name else whole.translate(bytes.maketrans(b"+/", b"-_")))
    (tmp_path / "deep" / "file").write_bytes(b"noise" + data if name in planted else data)
    assert find(template.canary, files_under(tmp_path))


def test_a_canary_in_argv_or_environment_is_found(template: Template):
    """The positive control for processes."""
    command = [sys.executable, "-I", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    for extra, environment in (([template.canary], None), ([], {"CANARY": template.canary})):
        with subprocess.Popen(
            [*command, *extra], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()  # it runs by now
            assert find(template.canary, processes_of([process.pid]))
            process.communicate()


def test_the_recovered_identity_opens_what_the_vault_sealed(
    living: Living, template: Template, tmp_path: Path
):
    """Header, then payload: together the file that the public program opens, with the identity told aloud."""
    told = living.cli("keys", "recover-identity")
    assert told.returncode == 0, told.stderr
    identity = tmp_path / "identity"
    identity.write_text(told.stdout)
    (row, *_) = [row for row in living.objects("weights") if row["name"] == "tiny"]
    folder = living.home / "vault" / row["id"]
    sealed = (folder / "header").read_bytes() + (folder / "payload").read_bytes()
    command = [*PYTHON, "appliance.age", "decrypt", "-i", str(identity)]
    opened = subprocess.run(command, input=sealed, capture_output=True, check=True).stdout
    assert opened == living.plaintext(row["id"])
    assert opened[8:].startswith(b'{"__metadata__"')
