"""What a real job computed: for those who may know, sealed, and committed to in the log."""

from __future__ import annotations

import json

import pytest

from appliance.training.report import parse_account
from tests.processes.living import PYTHON, Living, run

pytestmark = pytest.mark.processes

# The template's job took 20 steps of 4 sequences of 32 tokens.
TOKENS = 20 * 4 * 32


def trained(living: Living) -> str:
    (job,) = [item["job"]["id"] for item in living.stream("ListJobs")]
    return str(job)


def test_the_account_of_a_job_outlives_it_sealed_and_the_log_can_confirm_it(living: Living, tmp_path):
    job = trained(living)
    told = living.cli("account", job, "--json")
    assert told.returncode == 0, told.stderr
    account = json.loads(told.stdout)
    assert (account["begin_step"], account["step"], account["tokens"]) == (0, 20, TOKENS)
    parts = ("flops_forward", "flops_backward_inputs", "flops_backward_parameters", "flops_recompute")
    assert account["flops"] == sum(account[part] for part in parts)
    assert 0 < account["step_seconds"] <= account["seconds"]
    assert account["share_of_peak"] > 0
    assert account["bytes_read"] > 8 * 400  # eight documents of text
    report = next(row for row in living.objects("report") if row["name"] == "tiny")
    sealed = parse_account(living.plaintext(report["id"]))
    assert (sealed.tokens, sealed.sum.total) == (TOKENS, account["flops"])
    salt = tmp_path / "salt"
    assert living.cli("audit", "salt", report["log_index"], "--out", salt).returncode == 0
    living.shutdown()
    entries = living.entries()
    assert str(account["flops"]) not in entries
    opened = run(
        *(*PYTHON, "audit", "open", living.home / "log", report["log_index"], "--salt", salt),
        *("--vkey", living.public / "log.vkey", f"tokens={TOKENS}"),
        f"mflop_forward={account['flops_forward'] // 10**6}",
    )
    assert opened.returncode == 0, opened.stdout + opened.stderr
    living.demand_sound_log()


def test_a_job_at_work_shows_its_account_in_jobs_and_status(living: Living, monkeypatch):
    job = living.train("endless")
    assert living.job(job)["account"] is None or living.job(job)["account"]["job"] == job
    shown = next(event for event in iter(lambda: living.call("Status")["accounts"], None) if event)[0]
    assert shown["job"] == job
    assert shown["step"] > 0
    assert living.job(job)["account"]["tokens"] >= shown["tokens"]
    assert "% of peak" in living.cli("status").stdout
    living.call("Stop", {"job": job})
    assert living.last_word(job)["kind"] == "stopped"
    assert living.job(job)["account"] is None
    assert living.call("ShowAccount", {"job": job})["account"]["step"] == living.job(job)["step"]


def test_a_job_without_a_report_says_when_there_will_be_one(living: Living):
    job = living.train("endless")
    living.wait_for(job, "checkpoint")
    living.kill()
    living.start().unseal()
    refused = living.cli("account", job)
    assert refused.returncode == 20
    assert "it is sealed when a job is done or stopped" in refused.stderr
