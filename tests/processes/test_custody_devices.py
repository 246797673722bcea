"""A vault that a TPM or a token opens, from `init` on, by the programs that people run.

The devices are swtpm and SoftHSM2: real programs, without the chip. Where they are not installed, the tests
say so and skip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.devices import PIN, software_token, software_tpm
from tests.processes.conftest import Template, checked
from tests.processes.living import PYTHON, Living

pytestmark = pytest.mark.processes

Made = Callable[..., Living]


@contextmanager
def typed(secret: bytes) -> Iterator[dict[str, object]]:
    """A secret on a descriptor, as options of `run`."""
    read_end, write_end = os.pipe()
    os.write(write_end, secret)
    os.close(write_end)
    try:
        yield {"pass_fds": (read_end,)}
    finally:
        os.close(read_end)


def with_secret(appliance: Living, secret: bytes, *arguments: str) -> CompletedProcess[str]:
    with typed(secret) as options:
        fd = options["pass_fds"][0]  # type: ignore[index]  the one that was just put there
        return appliance.cli(*arguments, "--passphrase-fd", fd, **options)


@pytest.fixture
def made(template: Template, tmp_path: Path) -> Iterator[Made]:
    """Make an appliance with some custody, by the command line; whatever is started is gone afterwards."""
    appliance = Living(tmp_path / "home", tmp_path / "public")

    def make(uri: str, secret: bytes | None = None) -> Living:
        arguments = ["init", "--profile", "development", "--custody", uri, "--public", str(appliance.public)]
        arguments += ["--trust-signer", str(template.folder / "researcher.vkey"), "--yes"]
        ask = appliance.cli if secret is None else partial(with_secret, appliance, secret)
        done = ask(*arguments)
        assert done.returncode == 0, done.stderr
        return appliance.start()

    yield make
    appliance.kill()


def bundle_for(appliance: Living, template: Template, out: Path) -> Path:
    to = ("--to", appliance.public / "transfer.recipient", "--sign", template.folder / "researcher.key")
    packed = (template.folder / "corpus", template.folder / "tiny.toml", "--kind", "corpus")
    checked(
        *PYTHON, "appliance", "bundle", "create", *packed, *to, "--channel", "lab", "--seq", 1, "--out", out
    )
    return next(out.glob("*.bundle"))


def demand_a_read(appliance: Living, template: Template, out: Path) -> None:
    """Bring objects in and read them again: each is opened by a fresh worker before it is catalogued."""
    brought = appliance.cli("import", bundle_for(appliance, template, out))
    assert brought.returncode == 0, brought.stderr
    assert {item["kind"] for item in appliance.objects()} == {"corpus", "config"}


def sealed(appliance: Living) -> bool:
    return bool(appliance.call("Status")["sealed"])


def test_a_vault_sealed_to_a_tpm_opens_on_this_machine_as_it_was(
    made: Made, template: Template, tmp_path: Path
):
    with software_tpm() as chip:
        appliance = made(chip.uri("0,7"))
        opened = appliance.cli("unseal")
        assert opened.returncode == 0, opened.stderr
        demand_a_read(appliance, template, tmp_path / "out")
        assert appliance.cli("seal").returncode == 0
        chip.extend(7)
        refused = appliance.cli("unseal")
        assert refused.returncode == 27
        assert "found another value in PCR 7: other firmware" in refused.stderr
        assert sealed(appliance)
        chip.stop()
        absent = appliance.cli("unseal")
        assert absent.returncode == 26
        assert sealed(appliance)
        chip.start()  # a boot as it was
        opened = appliance.cli("unseal")
        assert opened.returncode == 0, opened.stderr
        assert appliance.last_word(appliance.train("tiny"))["kind"] == "done"
        appliance.shutdown()
    appliance.demand_sound_log()


def test_a_token_opens_with_its_pin_and_a_wrong_one_is_told_with_the_tries_left(
    made: Made, template: Template, tmp_path: Path
):
    (tmp_path / "softhsm").mkdir()
    with software_token(tmp_path / "softhsm") as token:
        appliance = made(token.uri(), PIN)
        wrong = with_secret(appliance, b"000000", "unseal")
        assert wrong.returncode == 19
        assert "wrong PIN; a wrong PIN was given since the last right one: few tries" in wrong.stderr
        assert sealed(appliance)
        told = appliance.cli("custody", "status")
        assert "few tries may be left" in told.stdout
        opened = with_secret(appliance, PIN, "unseal")
        assert opened.returncode == 0, opened.stderr
        assert "warning: token: a wrong PIN was given" in opened.stderr  # before the next one is tried
        assert "few tries" not in appliance.cli("custody", "status").stdout
        demand_a_read(appliance, template, tmp_path / "out")
        assert appliance.cli("seal").returncode == 0
        assert sealed(appliance)
        assert with_secret(appliance, PIN, "unseal").returncode == 0
        assert appliance.last_word(appliance.train("tiny"))["kind"] == "done"
        appliance.shutdown()
    appliance.demand_sound_log()
    assert PIN.decode() not in appliance.entries()
