"""Rules are changed by two officers, by the commands that people type, and stay changed after a restart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.processes.conftest import Template, checked
from tests.processes.living import Living

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen"),
]
RULE = '@id("no-witnessing")\nforbid (principal, action == Action::"rotate", resource);\n'


def test_two_officers_put_a_set_of_rules_in_force(living: Living, template: Template, tmp_path: Path):
    shipped = Path(__file__).parents[2] / "policy" / "default.cedar"
    rules = tmp_path / "rules"
    rules.mkdir()
    shutil.copy(shipped, rules)
    (rules / "lab.cedar").write_text(RULE)
    digest = json.loads(living.cli("policy", "check", rules, "--json").stdout)["policy_set"]
    request = tmp_path / "policy.request"
    asked = living.cli(
        "request", "configure", "policy", f"policy_set={digest}", "--reason", "review", "--out", request
    )
    assert asked.returncode == 0, asked.stderr
    load = ("policy", "load", rules, "--request", request)
    alone = living.cli(*load)
    assert (alone.returncode, "two-officers" in alone.stderr) == (8, True), alone.stderr
    for officer in ("alice", "bob"):
        checked(
            "ssh-keygen",
            "-q",
            "-Y",
            "sign",
            "-n",
            "approval@appliance",
            "-f",
            template.folder / officer,
            request,
        )
        signature = request.with_name("policy.request.sig")
        assert living.cli("approve", request, signature).returncode == 0
        signature.unlink()
    loaded = living.cli(*load)
    assert loaded.returncode == 0, loaded.stderr
    assert f"in force: {digest}" in loaded.stdout

    living.shutdown()
    living.start()
    assert digest in living.cli("policy", "status").stdout
    may = json.loads(living.cli("policy", "who-can", "rotate", "--json").stdout)
    assert not any(each["allowed"] for each in may)
    assert "with 0" not in living.cli("policy", "who-can", "status").stdout
    living.demand_sound_log()
