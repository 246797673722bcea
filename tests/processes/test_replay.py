"""A stretch of a real job, computed again: by the appliance against its log, and by an auditor on his own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.processes.living import PYTHON, Living, run

pytestmark = pytest.mark.processes

# The template's job has 20 steps and a checkpoint after each ten.


def trained(living: Living) -> str:
    (job,) = [item["job"]["id"] for item in living.stream("ListJobs")]
    return str(job)


def outcomes(living: Living) -> list[dict[str, object]]:
    found = [json.loads(line) for line in living.entries().splitlines()]
    return [entry["context"] for entry in found if entry["kind"] == "replayed"]


def test_a_job_replayed_from_the_start_and_from_a_checkpoint_is_what_the_log_says(living: Living):
    job = trained(living)
    whole = living.cli("replay", job, "--from", 0, "--steps", 20)
    assert whole.returncode == 0, whole.stderr
    assert [line.split(" (")[0] for line in whole.stdout.splitlines()] == [
        "step 10: weights equal",
        "step 20: weights equal",
        "2 checkpoints are what the log says",
    ]
    rest = living.cli("replay", job, "--from", 13, "--steps", 7, "--json")
    assert rest.returncode == 0, rest.stderr
    (told,) = [item for line in rest.stdout.splitlines() if (item := json.loads(line))["weights_equal"]]
    assert (told["step"], told["optimizer_equal"], told["made_on"]) == (20, True, told["backend"])
    objects = json.dumps(living.objects())
    living.shutdown()
    assert [(found["from"], found["equal"], found["first_difference"]) for found in outcomes(living)] == [
        (0, [10, 20], None),
        (10, [20], None),
    ]
    living.demand_sound_log()
    (living.home / "objects.json").write_text(objects)
    account = run(
        *(*PYTHON, "audit", "account", living.home / "log", "--objects", living.home / "objects.json"),
        *("--vkey", living.public / "log.vkey"),
    )
    assert account.returncode == 0, account.stdout


@pytest.mark.parametrize(
    ("begin", "steps", "exit_code", "told"),
    [
        (0, 9, 2, "no checkpoint lies within 9 steps after step 0: the next is of step 10"),
        (20, 5, 2, "no checkpoint lies within 5 steps after step 20: none lies behind it"),
        (5, 20, 20, "no checkpoint at or before step 5 is in the vault, the oldest kept is of step 10"),
    ],
)
def test_a_stretch_that_shows_nothing_is_refused_with_the_next_step(
    living: Living, begin, steps, exit_code, told
):
    refused = living.cli("replay", trained(living), "--from", begin, "--steps", steps)
    assert refused.returncode == exit_code, refused.stderr
    assert told in refused.stderr


@pytest.mark.parametrize("kind", ["config", "corpus", "optimizer"])
def test_a_job_whose_objects_are_gone_cannot_be_replayed_and_says_which(living: Living, kind: str):
    job, begin = trained(living), 13 if kind == "optimizer" else 0
    config = living.job(job)["config"]
    rows = [row for row in living.objects(kind) if kind != "config" or row["id"] == config]
    gone = rows[0]["id"]
    shutil.rmtree(living.home / "vault" / gone)
    failed = living.cli("replay", job, "--from", begin, "--steps", 20)
    assert failed.returncode == 20, failed.stderr
    assert f"object {gone}: expected it published" in failed.stderr
    assert living.call("Status")["log_alive"]
    living.demand_nothing_half_written()


@pytest.fixture
def opened(living: Living, tmp_path: Path) -> Path:
    """What an auditor was given: plaintexts, and the entries of the last checkpoint with their salts."""
    job = living.job(trained(living))
    by_kind = {kind: living.objects(kind) for kind in ("corpus", "weights", "optimizer")}
    given = {"config.toml": job["config"], "corpus": by_kind["corpus"][0]["id"]}
    given |= {kind: by_kind[kind][0]["id"] for kind in ("weights", "optimizer")}
    for name, object_id in given.items():
        (tmp_path / name).write_bytes(living.plaintext(object_id))
    for kind in ("weights", "optimizer"):
        index = by_kind[kind][1]["log_index"]
        for done in (
            living.cli("log", "receipt", index, "--out", tmp_path / f"last-{kind}"),
            living.cli("audit", "salt", index, "--out", tmp_path / f"last-{kind}.salt"),
        ):
            assert done.returncode == 0, done.stderr
    living.shutdown()
    return tmp_path


def recompute(folder: Path, *more: object):
    claims = [("--claim", f"last-{kind}.entry", f"last-{kind}.salt") for kind in ("weights", "optimizer")]
    return run(
        *(*PYTHON, "appliance", "recompute", "config.toml", "--corpus", "corpus"),
        *(word for claim in claims for word in claim),
        *more,
        cwd=folder,
    )


def test_an_auditor_with_the_objects_comes_to_what_the_log_committed_to(opened: Path):
    from_checkpoint = recompute(
        opened, "--weights", "weights", "--optimizer", "optimizer", "--to", 15, "--to", 20
    )
    assert from_checkpoint.returncode == 0, from_checkpoint.stderr
    lines = from_checkpoint.stdout.splitlines()
    assert lines[0].startswith("step 15: weights ")
    assert "= entry" not in lines[0]
    assert lines[1].count("= entry") == 2
    from_start = recompute(opened, "--to", 20, "--json")
    assert from_start.returncode == 0, from_start.stderr
    assert json.loads(from_start.stdout)["weights_sha256"] in lines[1]


def test_an_auditor_who_comes_to_something_else_is_told_which_entries_differ(opened: Path):
    (opened / "corpus").write_bytes((opened / "corpus").read_bytes().swapcase())
    differs = recompute(opened, "--to", 20)
    assert differs.returncode == 6
    assert "no state computed here is what entries" in differs.stderr


def test_half_a_state_or_a_salt_that_is_none_is_a_mistake_of_the_command_line(opened: Path):
    half = recompute(opened, "--to", 20, "--weights", "weights")
    assert half.returncode == 2
    (opened / "last-weights.salt").write_text("abc\n")
    odd = recompute(opened, "--to", 20)
    assert odd.returncode == 2
    assert "expected a salt of 64 hex digits, found 3 characters" in odd.stderr
