"""A witness in a process of its own, sticks between: what it sees of a real appliance, what it catches."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.processes.living import PYTHON, Living, run

WITNESSES = ("ann.example", "ben.example")


class Witnessed(Living):
    """An appliance with two witnesses beside it, both of whom must cosign."""

    def ask(self, *words):
        done = self.cli("audit", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def show(self, name, challenge, *more):
        """Run one witness over a challenge on the stick."""
        state = self.home.parent / name
        key, log_key = state / f"{name}.key", self.public / "log.vkey"
        command = [*PYTHON, "audit", "witness", "--state", state, "--key", key, "--log-key", log_key]
        return run(*command, *more, challenge)

    def witness(self, stick, number=0):
        """Have both witnesses cosign the same head; returns what accepting the last answer said."""
        for name in WITNESSES:
            challenge, answer = (stick / f"{what}-{number}-{name}" for what in ("challenge", "answer"))
            self.ask(
                "challenge", "--out", challenge, "--witness", name, *(["--again"] if name[0] == "b" else [])
            )
            done = self.show(name, challenge, "--out", answer)
            assert done.returncode == 0, done.stderr
            said = self.ask("accept", answer)
        return said

    @property
    def witness_options(self):
        keys = [self.home.parent / name / f"{name}.vkey" for name in WITNESSES]
        return [part for key in keys for part in ("--witness", key)]


@pytest.fixture
def watched(tmp_path):
    for name in WITNESSES:
        done = run(*PYTHON, "audit", "witness", "--init", name, "--state", tmp_path / name)
        assert done.returncode == 0, done.stderr
    appliance = Witnessed(tmp_path / "home", tmp_path / "public")
    done = appliance.cli(
        *("init", "--profile", "development", "--custody", "file:", "--public", appliance.public, "--yes"),
        *("--person", f"{os.getuid()}=carol", *appliance.witness_options, "--witness-quorum", "2"),
    )
    assert done.returncode == 0, done.stderr
    yield appliance.start()
    appliance.kill()


def test_both_witnesses_cosign_and_the_auditor_counts_them(watched, tmp_path):
    said = watched.witness(tmp_path)
    assert (said["names"], said["missing"]) == (list(WITNESSES), 0)
    watched.kill()
    watched.start()
    status = watched.ask("status")
    assert status["witnessed_size"] == said["size"]
    assert [each["size"] for each in status["witnesses"]] == [said["size"]] * 2
    receipt = watched.cli("log", "receipt", "0", "--witnessed", "--out", tmp_path / "genesis")
    assert receipt.returncode == 0, receipt.stderr
    assert (tmp_path / "genesis.tlog-proof").read_text().count("\n\u2014 ") == 3
    watched.shutdown()
    done = watched.audit(*watched.witness_options, "--receipt", tmp_path / "genesis.tlog-proof")
    assert done.returncode == 0, done.stderr
    assert f"the first {said['size']} entries, by ann.example, ben.example" in done.stdout


def test_a_home_set_back_whole_starts_and_verifies_and_is_caught_by_either_witness(watched, tmp_path):
    watched.witness(tmp_path, 0)
    watched.shutdown()
    shutil.copytree(watched.home, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    watched.start()
    said = watched.witness(tmp_path, 1)
    watched.kill()
    shutil.rmtree(watched.home)
    shutil.move(tmp_path / "backup", watched.home)
    watched.start()
    watched.demand_sound_log()
    watched.ask("challenge", "--out", tmp_path / "back", "--witness", "ann.example")
    for name in WITNESSES:
        done = watched.show(name, tmp_path / "back")
        assert done.returncode == 9, done.stderr
        assert f"(mine is {said['size']})" in done.stderr
    while watched.ask("status")["log_size"] <= said["size"]:
        pass
    watched.ask("challenge", "--out", tmp_path / "fork", "--from", said["size"])
    done = watched.show("ann.example", tmp_path / "fork")
    assert done.returncode == 6, done.stderr
    assert "a fork" in done.stderr


def test_after_a_lost_answer_the_witness_says_how_far_it_is_and_goes_on_from_there(watched, tmp_path):
    made = watched.ask("challenge", "--out", tmp_path / "lost", "--witness", "ann.example")
    assert watched.show("ann.example", tmp_path / "lost").returncode == 0
    watched.ask("challenge", "--out", tmp_path / "again", "--witness", "ann.example")
    done = watched.show("ann.example", tmp_path / "again")
    assert done.returncode == 9
    assert f"(mine is {made['size']})" in done.stderr
    watched.ask("challenge", "--out", tmp_path / "mine", "--from", made["size"])
    done = watched.show("ann.example", tmp_path / "mine", "--out", tmp_path / "answer")
    assert done.returncode == 0, done.stderr
    assert watched.ask("accept", tmp_path / "answer")["missing"] == 1
