"""The page on one job, of a real appliance: asked for under the caller's rights, checked, drawn."""

from __future__ import annotations

import re

import pytest

from tests.processes.living import Living

pytestmark = pytest.mark.processes


def trained(living: Living) -> str:
    (job,) = [item["job"]["id"] for item in living.stream("ListJobs")]
    return str(job)


def test_a_page_is_made_of_what_the_caller_may_see_and_the_log_can_prove(living: Living, template, tmp_path):
    job, out, key = trained(living), tmp_path / "page.html", template.public / "log.vkey"
    made = living.cli("report", job, "--out", out, "--log-key", key, "--prompt", "the ")
    assert made.returncode == 0, made.stderr
    text = out.read_text()
    for told in (job, "weights tiny", "corpus corpus", "operator-trains-from-config", "state done; step 20"):
        assert told in text
    assert text.count("<blockquote>") == 2  # both checkpoints are in the vault, and were asked
    assert "floating-point operations" in text
    assert (template.public / "log.vkey").read_text().strip() in text
    assert living.cli("report", job, "--out", out).returncode == 21  # nothing is overwritten
    verified = int(re.search(r"(\d+) log entries verified", made.stdout)[1])
    listed = list(living.stream("ListEntries", {"job": job}))
    assert 20 < verified < len(listed)  # the samples since then are about its weights


def test_a_page_is_not_made_with_a_key_that_did_not_sign(living: Living, template, tmp_path):
    out = tmp_path / "page.html"
    refused = living.cli(
        "report", trained(living), "--out", out, "--log-key", template.folder / "researcher.vkey"
    )
    assert refused.returncode == 7, refused.stderr
    assert not out.exists()


def test_a_page_of_a_job_at_work_tells_its_curve_so_far(living: Living, tmp_path):
    job, out = living.train("endless"), tmp_path / "page.html"
    living.wait_for(job, "checkpoint")
    made = living.cli("report", job, "--out", out)
    assert made.returncode == 0, made.stderr
    text = out.read_text()
    assert "running" in text
    assert "Learning rate. learning rate from" in text
    assert "No sample text is kept" in text
    assert "own copy" in text
