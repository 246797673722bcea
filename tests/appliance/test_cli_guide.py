"""`appliance init --guided`: what is asked becomes options, and the twin makes the same appliance."""

from __future__ import annotations

import os
import shlex

import click
import pytest
from click.testing import CliRunner

from appliance.bundle.signer import SignerKey
from appliance.cli.guide import ask
from appliance.cli.root import appliance
from appliance.home import Home, read_facts


@click.command()
def asking():
    click.echo(repr(ask()))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "officers").write_text("")
    key = SignerKey.from_seed("researcher", bytes(32))
    (tmp_path / "researcher.vkey").write_text(key.vkey.text + "\n")
    return tmp_path


def test_a_guided_init_prints_the_line_that_makes_the_same_without_questions(files):
    answers = ["development", "file", "default", "officers", "researcher.vkey", "", "carol", "public", "y"]
    guided = CliRunner().invoke(
        appliance,
        ["--home", str(files / "a"), "init", "--guided"],
        input="".join(f"{each}\n" for each in answers),
    )
    assert guided.exit_code == 0, guided.output
    (line,) = [line.strip() for line in guided.stderr.splitlines() if line.startswith("  appliance --home")]
    words = shlex.split(line)[1:]
    words[words.index(str(files / "a"))] = str(files / "b")
    words[words.index("public")] = "public-b"
    twin = CliRunner().invoke(appliance, words)
    assert twin.exit_code == 0, twin.output
    one, two = (read_facts(Home(files / name)) for name in ("a", "b"))
    assert one.person_of(os.getuid()) == two.person_of(os.getuid()) == "carol"
    assert (one.profile, one.custody, one.trust) == (two.profile, two.custody, two.trust)
    assert (files / "public" / "log.vkey").exists()


def test_a_wrong_answer_is_asked_again_with_its_reason(files):
    answers = ["isolated", "shares", "3", "2", "2", "3", "strict", "nowhere", "", "", "carol", "out"]
    done = CliRunner().invoke(asking, input="".join(f"{each}\n" for each in answers))
    assert done.exit_code == 0, done.output
    assert "custody='shamir:2-of-3'" in done.stdout
    assert "officers=None" in done.stdout
    assert "expected a file, found none at nowhere" in done.stderr


def test_each_choice_says_what_it_means(files):
    done = CliRunner().invoke(asking, input="")
    assert "refuses to train while this host has a network" in done.stderr
    assert done.exit_code == 1  # nobody answered
