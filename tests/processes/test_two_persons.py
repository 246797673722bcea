"""One person alone takes nothing out: the two-person rule, with OpenSSH's own signatures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.processes.conftest import Template, checked
from tests.processes.desk import Desk
from tests.processes.living import PYTHON, Living, run

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen"),
]


@pytest.fixture
def desk(living: Living, template: Template, tmp_path: Path) -> Desk:
    return Desk(living, template, tmp_path)


def test_two_officers_release_one_export_and_only_one(desk: Desk):
    desk.demand_not_exported(8, "two-officers")
    assert desk.approve("alice").returncode == 0
    desk.demand_not_exported(8, "two-officers")
    assert desk.approve("bob").returncode == 0
    exported = desk.export()
    assert exported.returncode == 0, exported.stderr
    (bundle,) = (desk.folder / "out").iterdir()
    opened = checked(
        *(*PYTHON, "appliance", "bundle", "open", bundle, "--identity", desk.folder / "lab.identity"),
        *("--trust", desk.template.public / "bundle.vkey", "--out", desk.folder / "model"),
    )
    assert "model.safetensors" in opened
    shutil.rmtree(bundle)
    desk.demand_not_exported(9, "was used already")
    desk.appliance.shutdown()
    desk.appliance.demand_sound_log()


def test_one_officer_signing_twice_counts_once(desk: Desk):
    assert desk.approve("alice").returncode == 0
    again = desk.approve("alice")
    assert again.returncode == 21
    assert "alice has approved this request already: another officer must" in again.stderr
    desk.demand_not_exported(8, "two-officers")


def test_nobody_approves_their_own_request(desk: Desk):
    refused = desk.approve("carol")
    assert refused.returncode == 8
    assert "carol asked for this and cannot approve it" in refused.stderr
    assert desk.approve("alice").returncode == 0
    desk.demand_not_exported(8, "two-officers")


def test_a_signature_for_another_purpose_approves_nothing(desk: Desk):
    refused = desk.approve("bob", namespace="file")
    assert refused.returncode == 7
    assert desk.approve("alice").returncode == 0
    desk.demand_not_exported(8, "two-officers")


def test_a_request_that_was_changed_is_refused_though_officers_sign_it(desk: Desk):
    honest = desk.request.read_text()
    desk.request.write_text(honest.replace('"reason":"r"', '"reason":"s"'))
    refused = desk.approve("alice")
    assert refused.returncode == 20, refused.stderr
    # A signature of the changed document says nothing about the one that was made here.
    forged = desk.sign("alice")
    desk.request.write_text(honest)
    assert desk.appliance.cli("approve", desk.request, forged).returncode == 7
    desk.demand_not_exported(8, "two-officers")


def test_approvals_of_one_recipient_release_nothing_to_another(desk: Desk):
    for officer in ("alice", "bob"):
        assert desk.approve(officer).returncode == 0
    desk.recipient = json.loads(
        checked(*PYTHON, "appliance", "keygen", "recipient", "other", "--out", desk.folder, "--json")
    )["recipient"]
    desk.demand_not_exported(8, "ask for what you mean")


def test_a_key_that_nobody_enrolled_approves_nothing(desk: Desk, template: Template):
    key = desk.folder / "mallory"
    checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key, "-C", "alice")
    made = run("ssh-keygen", "-q", "-Y", "sign", "-n", "approval@appliance", "-f", key, desk.request)
    assert made.returncode == 0, made.stderr
    refused = desk.appliance.cli("approve", desk.request, f"{desk.request}.sig")
    assert refused.returncode == 7
    assert "belongs to no enrolled officer" in refused.stderr


def test_an_officer_is_enrolled_by_stick_and_approves_then(desk: Desk):
    key = desk.template.folder / "dora"
    if not key.exists():
        checked("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key, "-C", "dora")
    desk.done("request", "officer", "dora", f"{key}.pub", "--reason", "joins", "--stick", desk.folder)
    (stick,) = desk.folder.glob("*.approval")
    for officer in ("alice", "bob"):
        desk.sign(officer, document=stick / "request.json").rename(stick / f"{officer}.sig")
    said = desk.done("approve", stick)
    assert said == "approved by alice: 1 of 2\napproved by bob: 2 of 2\n"
    assert desk.done("officers", "add", "--request", stick / "request.json").startswith("dora may approve")
    assert "dora" in desk.done("officers", "list")
    assert desk.approve("dora").returncode == 0
    desk.demand_not_exported(8, "approvals:1-of-2")
    assert desk.approve("bob").returncode == 0
    exported = desk.export()
    assert exported.returncode == 0, exported.stderr
    budgets = json.loads(desk.done("status", "--json"))["egress"]
    (left,) = [each for each in budgets if each["count"]]
    assert left["content"] == "weights"
    desk.appliance.shutdown()
    desk.appliance.demand_sound_log()


def pack_approvals(desk: Desk, stick: Path, *, seq: int, signer: str = "researcher") -> Path:
    """What an officer's machine that is never connected makes of a signed request."""
    out = desk.folder / f"stick-{seq}"
    to = ("--to", desk.template.public / "transfer.recipient", "--channel", "officers", "--seq", seq)
    key = desk.template.folder / f"{signer}.key"
    checked(*PYTHON, "appliance", "bundle", "create", stick, *to, "--sign", key, "--out", out)
    (bundle,) = out.iterdir()
    return bundle


def test_approvals_come_by_bundle_from_a_machine_that_is_never_connected(desk: Desk):
    desk.done("request", "export", "tiny", "--to", desk.recipient, "--reason", "r", "--stick", desk.folder)
    (stick,) = desk.folder.glob("*.approval")
    desk.request = stick / "request.json"
    desk.sign("alice", document=desk.request).rename(stick / "alice.sig")
    first = pack_approvals(desk, stick, seq=1)
    assert desk.done("import", first).endswith(" approved by alice\n")
    replayed = desk.appliance.cli("import", first)
    assert replayed.returncode == 9, replayed.stderr
    desk.demand_not_exported(8, "approvals:1-of-2")

    # Who made the bundle adds nothing to it: carol asked, and mallory is nobody.
    (stick / "alice.sig").unlink()
    mallory = desk.folder / "mallory"
    checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", mallory, "-C", "bob")
    desk.sign("carol", document=desk.request).rename(stick / "carol.sig")
    desk.sign(str(mallory), document=desk.request).rename(stick / "bob.sig")
    refused = desk.appliance.cli("import", pack_approvals(desk, stick, seq=2))
    assert refused.returncode == 7, refused.stderr
    assert "belongs to no enrolled officer" in refused.stderr
    desk.demand_not_exported(8, "approvals:1-of-2")

    # One signature that does not count keeps no good one back, and a number that brought nothing is free.
    desk.sign("bob", document=desk.request).rename(stick / "bob.sig")
    unknown = desk.appliance.cli("import", pack_approvals(desk, stick, seq=3, signer="stranger"))
    assert unknown.returncode == 7, unknown.stderr
    shutil.rmtree(desk.folder / "stick-2")
    taken = desk.appliance.cli("import", pack_approvals(desk, stick, seq=2))
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.endswith(" approved by bob\n")
    assert "refused: carol asked for this and cannot approve it" in taken.stderr
    exported = desk.export()
    assert exported.returncode == 0, exported.stderr
    shutil.rmtree(desk.folder / "out")
    desk.demand_not_exported(9, "was used already")
    assert not [each for each in desk.appliance.objects() if each["kind"] == "approval"]
    desk.appliance.shutdown()
    desk.appliance.demand_sound_log()


def test_the_figures_of_a_run_leave_alone(desk: Desk):
    (job,) = [each["id"] for each in json.loads(desk.done("jobs", "--json")) if each["name"] == "tiny"]
    desk.request.unlink()
    desk.done("request", "metrics", job, "--to", desk.recipient, "--reason", "plot", "--out", desk.request)
    for officer in ("alice", "bob"):
        assert desk.approve(officer).returncode == 0
    out = desk.folder / "out"
    out.mkdir()
    options = ("--sign", "--to", desk.recipient, "--request", desk.request, "--out", out)
    refused = desk.appliance.cli("export", "tiny", *options)
    assert refused.returncode == 8, refused.stderr
    desk.done("export", job, "--metrics", *options)
    (bundle,) = out.iterdir()
    checked(
        *(*PYTHON, "appliance", "bundle", "open", bundle, "--identity", desk.folder / "lab.identity"),
        *("--trust", desk.template.public / "bundle.vkey", "--out", desk.folder / "figures"),
    )
    told = json.loads((desk.folder / "figures" / "metrics.json").read_text())
    assert told["points"][-1]["bits_per_byte"] > 0
    budgets = json.loads(desk.done("status", "--json"))["egress"]
    assert {each["content"]: each["count"] for each in budgets} == {"weights": 0, "text": 0, "metrics": 1}
