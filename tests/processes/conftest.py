"""A template home that the real programs made once, and copies of it that live for one test each."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes.living import CONFIG, PYTHON, Living, copy_home, run

OFFICERS = ("alice", "bob", "carol")
# Steps and checkpoints of each config that the template's bundle brings.
CONFIGS = {"tiny": (20, 10), "steady": (1500, 100), "endless": (1_000_000, 200)}


@dataclass(frozen=True)
class Template:
    """What every test starts from; `folder` also holds signer, officers' keys and the bundle's sources."""

    folder: Path
    home: Path
    public: Path
    bundle: Path
    canary: str


def checked(*command: object, **options: object) -> str:
    done = run(*command, **options)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def make_sources(folder: Path, canary: str) -> None:
    """A small corpus and the configs, a canary in both."""
    words = random.Random(1)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(8):
        text = " ".join(words.choice(("the", "log", "keeps", "what", "keys", "open")) for _ in range(400))
        (corpus / f"{number}.txt").write_text(f"{text} {canary} {text}\n")
    for name, (steps, every) in CONFIGS.items():
        (folder / f"{name}.toml").write_text(CONFIG.format(canary=canary, steps=steps, every=every))


def make_bundle(template: Path, out: Path, *, seq: int, signer: str = "researcher") -> Path:
    """Pack the template's sources as the researcher does."""
    made = checked(
        *(*PYTHON, "appliance", "bundle", "create", "corpus", *[f"{name}.toml" for name in CONFIGS]),
        *("--kind", "corpus", "--to", "public/transfer.recipient", "--sign", f"{signer}.key"),
        *("--channel", "lab", "--seq", seq, "--out", out, "--json"),
        cwd=template,
    )
    return template / json.loads(made)["bundle"]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    folder = tmp_path_factory.mktemp("template")
    canary = f"canary {secrets.token_urlsafe(24)} canary"
    make_sources(folder, canary)
    for officer in OFFICERS:
        if shutil.which("ssh-keygen"):
            checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / officer, "-C", officer)
            key = " ".join((folder / f"{officer}.pub").read_text().split()[:2])
            with (folder / "officers").open("a") as lines:
                lines.write(f'{officer} namespaces="approval@appliance" {key}\n')
    (folder / "officers").touch()
    for signer in ("researcher", "stranger"):
        checked(*PYTHON, "appliance", "keygen", "signer", signer, "--out", folder)
    home = folder / "home"
    checked(
        *(*PYTHON, "appliance", "--home", home, "init", "--profile", "development", "--custody", "file:"),
        *("--trust-signer", folder / "researcher.vkey", "--officers", folder / "officers"),
        # The operator is an officer as well: only so can approving one's own request be tried.
        *("--person", f"{os.getuid()}=carol", "--public", folder / "public", "--yes"),
    )
    bundle = make_bundle(folder, Path("first"), seq=1)
    appliance = Living(home, folder / "public")
    try:
        appliance.start().unseal()
        checked(*PYTHON, "appliance", "--home", home, "import", bundle)
        assert appliance.last_word(appliance.train("tiny"))["kind"] == "done"
        appliance.shutdown()
    finally:
        appliance.kill()
    yield Template(folder, home, folder / "public", bundle, canary)
    shutil.rmtree(folder)


@pytest.fixture
def asleep(template: Template, tmp_path: Path) -> Iterator[Living]:
    """An appliance that does not run yet; whatever is started is gone after the test."""
    appliance = Living(copy_home(template.home, tmp_path / "home"), template.public)
    yield appliance
    appliance.kill()


@pytest.fixture
def awake(asleep: Living) -> Living:
    """An appliance that runs, sealed."""
    return asleep.start()


@pytest.fixture
def living(awake: Living) -> Living:
    """An appliance that runs, unsealed."""
    return awake.unseal()


@pytest.fixture
def bundle_of(template: Template, tmp_path: Path) -> Callable[..., Path]:
    """Make a fresh bundle for the template's appliance."""
    return lambda seq=2, signer="researcher": make_bundle(template.folder, tmp_path, seq=seq, signer=signer)


@pytest.fixture(scope="session")
def steady_weights(template: Template, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The last weights of the config `steady`, trained without a pause."""
    folder = tmp_path_factory.mktemp("steady")
    appliance = Living(copy_home(template.home, folder / "home"), template.public)
    try:
        job = appliance.start().unseal().train("steady")
        assert appliance.last_word(job)["kind"] == "done"
        weights = appliance.plaintext(appliance.job(job)["results"][-1])
        appliance.shutdown()
    finally:
        appliance.kill()
        shutil.rmtree(folder)
    return weights
