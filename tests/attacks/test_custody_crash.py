"""Changing custody under kill -9 at every step on the disk: afterwards exactly one way opens the vault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.initialise import initialise

ROTATOR = Path(__file__).with_name("custody_rotator.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def template(tmp_path):
    initialise(
        tmp_path / "template",
        profile="development",
        custody_uri="file:",
        secret=None,
        trust=[],
        officers=None,
        people={},
    )
    return tmp_path / "template"


def killed_everywhere(template, scenario):
    work = template.with_name("work")
    work.mkdir()
    done = subprocess.run(
        [sys.executable, str(ROTATOR), str(template), str(work), scenario],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    *killed, whole = told
    assert whole["status"] == 0
    assert [each["status"] for each in killed] == [-9] * len(killed)
    assert len(killed) >= 5
    return killed, whole


@pytest.mark.parametrize(
    ("scenario", "old", "new"), [("passphrase", "file", "words"), ("prove", "file", "shares")]
)
def test_one_way_opens_the_vault_whenever_the_change_was_cut_off(template, scenario, old, new):
    killed, whole = killed_everywhere(template, scenario)
    for each in [*killed, whole]:
        assert sum(each[way] for way in ("file", "words", "shares")) == 1, each
        assert len(each["slots"]) == 1 + each["waits"], each
    order = [each[new] for each in [*killed, whole]]
    assert order == sorted(order)  # once the new one counts, it does at every later step
    assert killed[0][old]
    assert not killed[0][new]
    assert whole[new]


def test_shares_that_were_handed_out_wait_or_never_were(template):
    killed, whole = killed_everywhere(template, "stage")
    for each in [*killed, whole]:
        assert each["file"], each
        assert len(each["slots"]) == 1 + each["waits"], each
    assert not killed[0]["waits"]
    assert whole["waits"]
