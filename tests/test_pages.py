"""The pages for people name only commands and options that exist; what a researcher types is typed here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from appliance.cli.root import appliance

ROOT = Path(__file__).parents[1]
PAGES = ("for-researchers", "for-operators", "for-recipients", "media", "install", "officers")
# What else is typed: programs of a distribution, of the demo's checkers, and the scripts of ours.
OTHERS = {
    *("age", "cat", "cd", "cp", "for", "make", "mkdir", "model_signing", "mount", "mv", "sh", "sha256sum"),
    *("ssh-keygen", "sync", "umount", "tar"),
}


def blocks(page: str) -> list[str]:
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """The words of each command of a page; a trailing comment and a line's continuation are the shell's."""
    found = []
    for block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|;(?=\s)|\|", line.partition(" # ")[0]):
                words = shlex.split(part)
                if words:
                    found.append(words)
    return found


def demand_valid(words: list[str]) -> None:
    """Follow the words to their verb, then ask click for each option, with a value where it takes one."""
    command: click.Command = appliance
    rest = words[1:]
    context = click.Context(command)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{words}: no verb {name}"
        command = found
    options = {flag: param for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    arguments = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            arguments.append(word)
            continue
        assert word in options, f"{words}: no option {word}"
        parameter = options[word]
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            value = rest.pop(0)
            if isinstance(parameter.type, click.Choice):
                assert value in parameter.type.choices, words
    takes = [param for param in command.params if isinstance(param, click.Argument)]
    needed = sum(param.required for param in takes)
    assert needed <= len(arguments), words
    assert any(param.nargs == -1 for param in takes) or len(arguments) <= len(takes), words


def test_every_page_shows_commands():
    assert all(commands(page) for page in PAGES if page != "officers")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_exists_with_its_options(page):
    for words in commands(page):
        if words[0] == "appliance":
            demand_valid(words)
        else:
            assert words[0] in OTHERS or words[0] in {"do", "done"}, words


@pytest.mark.parametrize("page", PAGES)
def test_every_verb_named_in_the_text_exists(page):
    text = (ROOT / f"docs/{page}.md").read_text(encoding="utf-8")
    for named in re.findall(r"`appliance ([a-z-]+)", text):
        assert appliance.get_command(click.Context(appliance), named) is not None, named


@pytest.mark.parametrize(
    "line",
    [
        "appliance no-such-verb",
        "appliance export m --no-such",
        "appliance request export m --to r --round fp8",
    ],
)
def test_a_page_that_is_wrong_would_be_found(line):
    with pytest.raises(AssertionError):
        demand_valid(line.split())


def test_what_a_researcher_types_works_as_printed(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/one.txt").write_text("Dear reader,\n")
    (tmp_path / "small.toml").write_text('preset = "tiny"\n[data]\ncorpus = "letters"\n')
    (tmp_path / "public").mkdir()
    (tmp_path / "stick").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/appliance"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m appliance "$@"\n')
    program.chmod(0o755)
    once, send = blocks("for-researchers")[:2]
    other = "appliance keygen recipient transfer --out public >/dev/null\n"
    done = subprocess.run(
        ["sh", "-euc", once + other + send],
        cwd=tmp_path,
        env={"PATH": f"{program.parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("stick/*.bundle/manifest.json"))
