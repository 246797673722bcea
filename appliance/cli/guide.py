"""The questions of `appliance init --guided`, and the one line that answers them without being asked.

Guided or not, the same values reach the same code: the guide only fills in options, says what each choice
means, and prints the command that does it again.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

import click

from appliance.custody.uri import canonical
from appliance.errors import ApplianceError

CUSTODIES = {
    "passphrase": "a passphrase that you type at each unseal; lost, the vault is lost",
    "shares": "word lists for several people, some of whom together unseal",
    "tpm": "this machine's TPM: nobody types anything, another machine opens nothing",
    "file": "a key file beside the disk: for demonstrations only",
}
PROFILES = {
    "isolated": "refuses to train while this host has a network",
    "development": "trains on a networked host, and says so in every entry of the log",
}
POLICIES = {
    "default": "two officers for each export; operators run what they cannot read",
    "strict": "the same, witnesses demanded, and no passphrase or key file as custody",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What was chosen; paths are as they were typed."""

    profile: str
    custody: str
    policy: str
    officers: Path | None
    trust: tuple[Path, ...]
    people: tuple[str, ...]
    public: Path | None

    def command(self, home: Path) -> str:
        """Return the command that makes the same appliance without questions."""
        words = ["appliance", "--home", str(home), "init", "--profile", self.profile]
        words += ["--custody", self.custody, "--policy", self.policy]
        files = [("--officers", self.officers), *(("--trust-signer", each) for each in self.trust)]
        for option, path in (*files, ("--public", self.public)):
            words += [option, str(path)] if path is not None else []
        words += [word for person in self.people for word in ("--person", person)]
        return shlex.join([*words, "--yes"])


def ask() -> Answers:
    """Ask for everything that has no safe default; raises click.Abort where nobody answers."""
    profile = _choose("Profile: what must this host be like?", PROFILES, "isolated")
    custody = _custody()
    policy = _choose("Rules to begin with?", POLICIES, "strict" if custody == "tpm:" else "default")
    officers = _file("Officers: OpenSSH allowed-signers file of those who approve, empty for none yet")
    trust = _files("Signers: a .vkey file of whoever sends bundles, empty when there is no more")
    person = f"{os.getuid()}={click.prompt('You are, by name', default=getuser(), err=True)}"
    question = "Folder for the public keys, for those who check and send"
    public = click.prompt(question, default="public", err=True)
    return Answers(profile, custody, policy, officers, trust, (person,), Path(public))


def _choose(question: str, choices: Mapping[str, str], default: str) -> str:
    click.echo(question, err=True)
    for name, meaning in choices.items():
        click.echo(f"  {name:<12} {meaning}", err=True)
    return str(click.prompt("  choice", type=click.Choice(tuple(choices)), default=default, err=True))


def _custody() -> str:
    """Ask how the vault is opened and return it as a custody URI."""
    kind = _choose("Custody: what opens the vault?", CUSTODIES, "passphrase")
    if kind != "shares":
        return f"{kind}:"
    while True:
        needed = click.prompt("  how many shares open it", type=click.IntRange(1, 16), default=2, err=True)
        total = click.prompt("  how many shares are there", type=click.IntRange(1, 16), default=3, err=True)
        try:
            return canonical(f"shamir:{needed}-of-{total}")
        except ApplianceError as refused:
            click.echo(f"  {refused}", err=True)


def _file(question: str) -> Path | None:
    while True:
        text = str(click.prompt(question, default="", show_default=False, err=True)).strip()
        if not text:
            return None
        if (path := Path(text).expanduser()).is_file():
            return path
        click.echo(f"  expected a file, found none at {path}", err=True)


def _files(question: str) -> tuple[Path, ...]:
    found: list[Path] = []
    while (path := _file(question)) is not None:
        found.append(path)
    return tuple(found)
