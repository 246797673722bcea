"""Verbs that need no daemon: keys of people, bundles, a new appliance."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.bundle.approval import write_request
from appliance.cli import passphrase
from appliance.cli import verify_model as verify_model_verb
from appliance.cli.bundle import channel_of
from appliance.cli.files import folder_descriptor
from appliance.cli.init import parse_people, write_public
from appliance.cli.packing import kind_of, plan
from appliance.cli.root import appliance
from appliance.custody.passphrase import Costs
from appliance.custody.slot import create_slot
from appliance.egress import DEFAULTS
from appliance.errors import AlreadyExists, ContentRefused, Incomplete, MediumMissing, UsageError
from appliance.export.form import Form
from appliance.export.lineage import ApprovedBy, Commitment, Lineage, Material, ReceiptName
from appliance.export.verify_model import Report
from appliance.home import Facts, Home, write_facts
from audit.checkpoint import TreeHead
from policy.approvals import ApprovalRequest
from tests.hosts import write_host


def run(*words, **options):
    return CliRunner().invoke(appliance, [str(word) for word in words], **options)


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.fixture
def people(tmp_path):
    """A signer alice and a recipient lab, with their key files in one folder."""
    keys = tmp_path / "keys"
    assert run("keygen", "signer", "alice", "--out", keys).exit_code == 0
    assert run("keygen", "recipient", "lab", "--out", keys).exit_code == 0
    return keys


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"document {number}\n")
    (tmp_path / "small.toml").write_text('preset = "tiny"\n[data]\ncorpus = "corpus"\n')
    return folder


@pytest.fixture
def bundle(people, corpus, tmp_path):
    done = run(
        *("bundle", "create", corpus, tmp_path / "small.toml", "--to", people / "lab.recipient"),
        *("--sign", people / "alice.key", "--out", tmp_path / "stick", "--seq", "7", "--json"),
    )
    assert done.exit_code == 0, done.output
    return Path(json.loads(done.output)["bundle"])


# Keys


def test_secret_halves_are_readable_by_their_owner_only_and_public_ones_by_all(people):
    assert [mode(people / name) for name in ("alice.key", "lab.identity")] == [0o600, 0o600]
    assert [mode(people / name) for name in ("alice.vkey", "lab.recipient")] == [0o644, 0o644]
    assert (people / "lab.recipient").read_text().startswith("age1")


@pytest.mark.parametrize(("who", "name"), [("signer", "alice"), ("recipient", "lab")])
def test_a_key_is_never_overwritten(people, who, name):
    before = {path: path.read_bytes() for path in people.iterdir()}
    assert run("keygen", who, name, "--out", people).exit_code == 21
    assert {path: path.read_bytes() for path in people.iterdir()} == before


def test_a_recipient_name_that_leaves_the_folder_is_refused(tmp_path):
    done = run("keygen", "recipient", "../lab", "--out", tmp_path / "keys")
    assert done.exit_code == 2
    assert "expected up to 64 letters, digits and . _ -" in done.stderr
    assert not (tmp_path / "lab.identity").exists()


def test_a_hybrid_recipient_is_said_in_its_prefix(tmp_path):
    done = run("keygen", "recipient", "lab", "--hybrid", "--out", tmp_path, "--json")
    assert json.loads(done.output)["recipient"].startswith("age1pq1")


def test_the_secret_never_appears_on_the_screen(tmp_path):
    shown = run("keygen", "signer", "bob", "--out", tmp_path).output
    shown += run("keygen", "recipient", "bob", "--out", tmp_path).output
    assert "PRIVATE+KEY" not in shown
    assert "AGE-SECRET-KEY" not in shown


@pytest.mark.skipif(shutil.which("age") is None, reason="the public age program is not installed")
def test_the_public_age_takes_the_identity_file_as_it_is(people):
    recipient = (people / "lab.recipient").read_text().strip()
    sealed = subprocess.run(["age", "-r", recipient], input=b"to the lab", capture_output=True, check=True)
    opened = subprocess.run(
        ["age", "-d", "-i", people / "lab.identity"], input=sealed.stdout, capture_output=True, check=True
    )
    assert opened.stdout == b"to the lab"


# Bundles


def test_a_bundle_goes_from_researcher_to_recipient(bundle, people, tmp_path):
    out = tmp_path / "opened"
    done = run(
        *("bundle", "open", bundle, "--identity", people / "lab.identity"),
        *("--trust", people / "alice.vkey", "--out", out),
    )
    assert done.exit_code == 0, done.output
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "config/small.toml",
        "corpus/docs/0.txt",
        "corpus/docs/1.txt",
        "corpus/docs/2.txt",
    }
    assert (out / "corpus/docs/1.txt").read_text() == "document 1\n"


def test_verify_names_the_signer_and_inspect_says_that_it_did_not_verify(bundle, people):
    verified = run(
        "bundle", "verify", bundle, "--trust", people / "alice.vkey", "--to", people / "lab.recipient"
    )
    assert verified.exit_code == 0, verified.output
    assert verified.output.splitlines()[-1].startswith("ok: every part is as it was signed by alice+")
    inspected = run("bundle", "inspect", bundle)
    assert inspected.stderr == "NOT VERIFIED: anybody could have written this\n"
    assert "channel  alice, number 7" in inspected.stdout
    assert json.loads(run("bundle", "inspect", bundle, "--json").stdout)["verified"] is False


def test_a_signer_nobody_trusts_is_refused_with_7(bundle, tmp_path):
    run("keygen", "signer", "mallory", "--out", tmp_path)
    done = run("bundle", "verify", bundle, "--trust", tmp_path / "mallory.vkey")
    assert done.exit_code == 7
    assert "signed by alice+" in done.stderr


@pytest.mark.parametrize(
    "name", ["p0000.age", "manifest.json", "manifest.json.sig", "sha256sums", "readme.txt"]
)
def test_one_flipped_byte_in_any_file_is_noticed(bundle, people, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    done = run("bundle", "verify", bundle, "--trust", people / "alice.vkey")
    assert done.exit_code in (6, 7, 12), done.output
    assert "ok:" not in done.output


def test_a_missing_part_is_incomplete(bundle, people):
    (bundle / "p0000.age").unlink()
    done = run("bundle", "verify", bundle, "--trust", people / "alice.vkey")
    assert done.exit_code == 13
    assert "p0000.age" in done.stderr


def test_a_bundle_for_somebody_else_is_another_target(bundle, people, tmp_path):
    run("keygen", "recipient", "other", "--out", tmp_path)
    trust = ("--trust", people / "alice.vkey")
    opened = run(
        "bundle", "open", bundle, "--identity", tmp_path / "other.identity", *trust, "--out", tmp_path / "o"
    )
    assert opened.exit_code == 11
    assert not (tmp_path / "o").exists()
    assert run("bundle", "verify", bundle, *trust, "--to", tmp_path / "other.recipient").exit_code == 11


def test_a_bundle_that_is_not_there_is_a_missing_medium(people, tmp_path):
    assert run("bundle", "inspect", tmp_path / "none").exit_code == 4
    assert run("bundle", "verify", tmp_path / "none", "--trust", people / "alice.vkey").exit_code == 4


def test_a_second_signer_signs_elsewhere(people, corpus, tmp_path):
    run("keygen", "signer", "bob", "--out", people)
    made = run(
        *("bundle", "create", corpus, "--to", people / "lab.recipient", "--sign", people / "alice.key"),
        *("--cosigner", people / "bob.vkey", "--out", tmp_path / "stick", "--json"),
    )
    stick = json.loads(made.stdout)["bundle"]
    trust = ("--trust", people / "alice.vkey", "--trust", people / "bob.vkey")
    alone = run("bundle", "verify", stick, *trust)
    assert alone.exit_code == 7
    assert "appliance bundle sign" in alone.stderr
    assert run("bundle", "sign", stick, "--sign", people / "bob.key").exit_code == 0
    assert run("bundle", "verify", stick, *trust).exit_code == 0
    assert run("bundle", "sign", stick, "--sign", people / "lab.identity").exit_code != 0


def test_a_damaged_part_is_named_and_healed(bundle, people):
    before = (bundle / "p0000.age").read_bytes()
    (bundle / "p0000.age").write_bytes(before[:-1] + b"?")
    trust = ("--trust", people / "alice.vkey")
    damaged = run("bundle", "verify", bundle, *trust)
    assert damaged.exit_code == 6
    assert "p0000.age missing or damaged" in damaged.stderr
    healed = run("bundle", "heal", bundle, *trust)
    assert (healed.exit_code, healed.stdout) == (0, "healed p0000.age\n")
    assert (bundle / "p0000.age").read_bytes() == before
    assert "nothing to heal" in run("bundle", "heal", bundle, *trust).stdout


def test_a_corpus_name_with_a_slash_is_refused(people, corpus, tmp_path):
    done = run(
        *("bundle", "create", corpus, "--to", people / "lab.recipient", "--sign", people / "alice.key"),
        *("--out", tmp_path / "stick", "--name", "a/b"),
    )
    assert done.exit_code == 2
    assert not (tmp_path / "stick").exists()


def test_channels_are_made_of_the_signers_name():
    assert [channel_of(name) for name in ("alice", "Alice@Lab.example", "///")] == [
        "alice",
        "alice-lab-example",
        "default",
    ]


# Packing


def members(paths, corpus=None):
    return [source.member for source in plan(paths, corpus)]


def test_texts_become_documents_of_one_corpus_and_sub_folders_stay_in_their_names(tmp_path):
    folder = tmp_path / "My Docs"
    (folder / "part one").mkdir(parents=True)
    (folder / "a.txt").touch()
    (folder / "part one" / "a.txt").touch()
    (folder / ".hidden.swp").touch()
    assert members([folder]) == ["corpus/My-Docs/a.txt", "corpus/My-Docs/part-one-a.txt"]
    assert members([folder / "a.txt"], "named") == ["corpus/named/a.txt"]


def test_a_folder_in_the_shape_of_a_bundle_is_taken_as_it_is(tmp_path):
    for name in ("corpus/x/a.txt", "config/small.toml", "weights/w.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert members([tmp_path]) == ["config/small.toml", "corpus/x/a.txt", "weights/w.safetensors"]


def test_a_request_without_a_signature_is_no_bundle_of_approvals(tmp_path):
    request = ApprovalRequest(
        *("lab.example/one", "0123456789abcdef" * 2, "ada", "export", ("a" * 64,), ("age1recipient",)),
        *({}, "review", "b" * 64, "2031-05-04T09:00:00Z"),
    )
    with folder_descriptor(tmp_path, "stick") as parent:
        stick = tmp_path / write_request(parent, request.encode())
    with pytest.raises(Incomplete, match=r"expected NAME\.sig by an officer, found none"):
        plan([stick], None)
    (stick / "alice.sig").write_text("signature\n")
    sources = plan([stick], None)
    assert [source.member for source in sources] == ["approval/alice.sshsig", "approval/request.json"]
    assert kind_of(sources) == "approval"
    (stick / "holiday.jpg").touch()
    with pytest.raises(ContentRefused, match="remove what does not belong there"):
        plan([stick], None)


def test_a_file_of_another_kind_is_refused_not_left_out(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "model.pkl").touch()
    with pytest.raises(ContentRefused, match=r"model\.pkl: expected \*\.txt, \*\.toml or \*\.safetensors"):
        plan([tmp_path], None)


def test_a_link_is_refused(tmp_path):
    (tmp_path / "a.txt").symlink_to("/etc/passwd")
    with pytest.raises(ContentRefused, match=r"a\.txt: expected a file or folder, found a link"):
        plan([tmp_path], None)


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "small.toml").touch()
    with pytest.raises(UsageError, match=r"would both become config/small\.toml"):
        plan([tmp_path / "x", tmp_path / "y"], None)


def test_nothing_to_pack_and_nothing_there_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="nothing to pack"):
        plan([tmp_path], None)
    with pytest.raises(MediumMissing, match="no file or folder"):
        plan([tmp_path / "none"], None)


# Init


@dataclasses.dataclass(frozen=True)
class Made:
    origin: str = "example.invalid/log"
    profile: str = "isolated"
    log_vkey: str = "example.invalid/log+1234abcd+AAAA"
    log_pq_vkey: str = ""
    bundle_vkey: str = "example.invalid/log/bundle+1234abcd+BBBB"
    export_key_pem: str = "-----BEGIN PUBLIC KEY-----\nCCCC\n-----END PUBLIC KEY-----\n"
    transfer_recipient: str = "age1qqq"
    tree_head: str = "example.invalid/log\n1\nAAAA\n\n\u2014 example.invalid/log DDDD\n"


@pytest.fixture
def initialise(monkeypatch):
    """What the verb asks of `appliance.initialise`, without making keys."""
    calls = []
    module = types.ModuleType("appliance.initialise")

    def record(home, **options):
        secret = options["secret"]
        calls.append((home, {**options, "secret": None if secret is None else bytes(secret)}))
        return Made()

    module.initialise = record
    monkeypatch.setitem(sys.modules, "appliance.initialise", module)
    return calls


@pytest.fixture
def typed(monkeypatch):
    """Passphrases that a person types, in order."""
    entries = []
    monkeypatch.setattr(passphrase, "has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: entries.pop(0))
    return entries


def test_init_passes_everything_on_and_shows_what_others_need(initialise, typed, people, tmp_path):
    typed += ["correct", "correct"]
    (tmp_path / "officers").write_text("dora ssh-ed25519 AAAA\n")
    (tmp_path / "q").write_text("[export]\npeople = 3\n")
    (tmp_path / "b").write_text("[text]\ncount = 1\n")
    done = run(
        *("--home", tmp_path / "home", "init", "--trust-signer", people / "alice.vkey", "--yes"),
        *("--officers", tmp_path / "officers", "--person", "1000=carol", "--origin", "example.invalid/log"),
        *("--witness", people / "alice.vkey", "--witness-quorum", "1"),
        *(
            "--role",
            "dora=data-owner",
            "--role",
            "dora=a",
            "--compartment",
            "carol=red",
            "--quorum",
            tmp_path / "q",
            "--budget",
            tmp_path / "b",
        ),
    )
    assert done.exit_code == 0, done.output
    home, options = initialise[0]
    assert home == tmp_path / "home"
    assert options == {
        "profile": "isolated",
        "custody_uri": "passphrase:",
        "secret": b"correct",
        "trust": [(people / "alice.vkey").read_text().strip()],
        "trust_root": "",
        "officers": "dora ssh-ed25519 AAAA\n",
        "people": {1000: "carol"},
        "witnesses": [(people / "alice.vkey").read_text().strip()],
        "witness_quorum": 1,
        "compartments": {"carol": ["red"]},
        "policy": "default",
        "officer_roles": {"dora": ("data-owner", "a")},
        "quorums": {"export": {"people": 3}},
        "budgets": {**DEFAULTS, "text": {**DEFAULTS["text"], "count": 1}},
        "hybrid": False,
        "post_quantum_log": False,
        "origin": "example.invalid/log",
        "recovery": "",
        "hand_out": None,
    }
    assert "transfer recipient:\nage1qqq\n" in done.output
    assert "witness" in done.output


def test_public_keys_are_written_for_those_who_check_and_send(initialise, tmp_path):
    public = tmp_path / "public"
    done = run("--home", tmp_path / "home", "init", "--yes", "--custody", "file:", "--public", public)
    assert done.exit_code == 0, done.output
    made = Made()
    assert {path.name: path.read_text() for path in public.iterdir()} == {
        "transfer.recipient": "age1qqq\n",
        "log.vkey": f"{made.log_vkey}\n",
        "tree-head.note": made.tree_head,
        "bundle.vkey": f"{made.bundle_vkey}\n",
        "export.pub": made.export_key_pem,
    }


def test_a_post_quantum_log_is_asked_for_by_an_option(initialise, tmp_path):
    done = run("--home", tmp_path / "home", "init", "--yes", "--custody", "file:", "--post-quantum-log")
    assert done.exit_code == 0, done.output
    assert initialise[0][1]["post_quantum_log"] is True


def test_the_post_quantum_key_is_written_where_the_log_has_one(tmp_path):
    made = dataclasses.asdict(Made(log_pq_vkey="example.invalid/log+9999abcd+EEEE"))
    write_public(made, tmp_path / "public")
    assert (tmp_path / "public/log-pq.vkey").read_text() == "example.invalid/log+9999abcd+EEEE\n"


def test_two_entries_that_differ_make_nothing(initialise, typed, tmp_path):
    typed += ["correct", "corect"]
    done = run("--home", tmp_path, "init", "--yes")
    assert done.exit_code == 19
    assert "the two entries differ; nothing was written" in done.stderr
    assert initialise == []


def test_a_key_file_asks_nothing_and_says_what_it_is(initialise, tmp_path):
    done = run(
        "--home", tmp_path, "init", "--yes", "--custody", "file:", "--profile", "development", "--json"
    )
    assert done.exit_code == 0, done.output
    assert done.stderr == "warning: custody file: keeps the key beside what it opens. For the demo only\n"
    assert json.loads(done.stdout) == dataclasses.asdict(Made())
    assert initialise[0][1]["secret"] is None


def test_without_yes_a_no_makes_nothing(initialise, tmp_path):
    done = run("--home", tmp_path / "home", "init", input="n\n")
    assert done.exit_code == 130
    assert f"Make a new appliance in {tmp_path}/home, profile isolated, custody passphrase:" in done.stderr
    assert initialise == []


@pytest.mark.parametrize(
    "pairs", [("carol",), ("=carol",), ("1000=",), ("-1=carol",), ("x=carol",), ("1=a", "1=b")]
)
def test_a_person_is_one_uid_and_one_name(pairs):
    with pytest.raises(UsageError, match="--person: expected"):
        parse_people(pairs)


def test_keygen_reports_a_name_that_is_taken(tmp_path):
    (tmp_path / "lab.recipient").touch()
    done = run("keygen", "recipient", "lab", "--out", tmp_path)
    assert done.exit_code == AlreadyExists.exit_code
    assert not (tmp_path / "lab.identity").exists()


# Exported models


def lineage_of(profile):
    return Lineage(
        form=Form("withheld"),
        subjects={"model.safetensors": "ab" * 32},
        origin="example.invalid/log",
        profile=profile,
        job="7f3a",
        object_id="cd" * 32,
        materials=(Material("corpus", "ef" * 32, Commitment("12" * 32, 4)),),
        code_version="0.1.0",
        code_sha256="34" * 32,
        backend="reference",
        kernels_sha256="56" * 32,
        seed=7,
        steps=9,
        flops=10**18,
        approvals=(ApprovedBy("dora", "SHA256:x", "78" * 32), ApprovedBy("erik", "SHA256:y", "78" * 32)),
        receipts=(ReceiptName("train", 5, "train"), ReceiptName("export", 9, "export")),
    )


@pytest.fixture
def verified(monkeypatch, people):
    """A verdict that the checks would return, and the words that ask for it."""

    def install(profile):
        lineage = lineage_of(profile)
        report = Report(
            "first\x1b[2J", lineage.subjects, lineage, TreeHead("example.invalid/log", 12, b"\x01" * 32)
        )
        monkeypatch.setattr(verify_model_verb, "verify_model", lambda *_: report)

    install("isolated")
    keys = ("--log-key", people / "alice.vkey", "--export-key", people / "alice.vkey")
    return install, ("verify-model", people, *keys)


def test_a_verified_model_says_what_was_checked_and_what_is_still_owed(verified):
    install, words = verified
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == [
        "model        first\\x1b[2J",
        "signature    holds over 1 files; none missing, changed or added",
        "made by      example.invalid/log, job 7f3a, profile isolated",
        "made of      corpus",
        "form         architecture withheld, rounding none",
        "approved by  dora, erik",
        "receipts     2 hold under the tree head of 12 entries",
        "ok; still owed: that the log as it is now contains this tree head (`python -m audit verify`)",
    ]
    install("development")
    assert "warning: trained in the development profile" in run(*words).output


def test_a_verdict_as_json_carries_lineage_and_root(verified):
    verdict = json.loads(run(*verified[1], "--json").output)
    assert verdict["tree_head"] == {"origin": "example.invalid/log", "size": 12, "root": "01" * 32}
    assert verdict["lineage"]["materials"][0]["digest"] == {"value": "12" * 32, "entry": 4}


def test_a_model_folder_that_is_not_there_and_one_without_a_signature_are_told_apart(people, tmp_path):
    keys = ("--log-key", people / "alice.vkey", "--export-key", people / "alice.vkey")
    assert run("verify-model", tmp_path / "none", *keys).exit_code == 4
    unsigned = run("verify-model", people, *keys)
    assert unsigned.exit_code == 13
    assert "model.sig" in unsigned.stderr


# Doctor


@pytest.fixture
def quiet_host(tmp_path):
    """A host without network, swap or core dumps, as a folder."""
    return write_host(tmp_path / "host")


def facts_of(profile, custody):
    return Facts(
        format=1,
        origin="example.invalid/log",
        profile=profile,
        log_vkey="",
        log_pq_vkey="",
        bundle_vkey="",
        export_key_pem="",
        vault_recipient="",
        transfer_recipient="",
        custody=custody,
        log_custody="file:",
        policy_set="",
        officers_sha256="",
        trust=(),
        witnesses=(),
        witness_quorum=0,
        people={},
        roles={},
        compartments={},
        recovery="",
        quorums={},
        budgets=DEFAULTS,
    )


def test_a_quiet_host_is_isolated_and_a_networked_one_ends_with_15(quiet_host, tmp_path):
    done = run("--home", tmp_path / "none", "doctor", "--sysroot", quiet_host)
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == "host isolated, profile none"
    (quiet_host / "sys/class/net/eth0").mkdir()
    done = run("--home", tmp_path / "none", "doctor", "--sysroot", quiet_host)
    assert done.exit_code == 15
    assert "FAIL     No network interface but loopback: eth0" in done.stdout
    assert "mend: remove the adapter" in done.stdout
    assert done.stdout.splitlines()[-1] == "host NOT isolated, profile none"


def test_a_host_that_shows_nothing_is_not_isolated(tmp_path):
    done = run("--home", tmp_path, "doctor", "--sysroot", tmp_path)
    assert done.exit_code == 15
    assert "UNKNOWN" in done.stdout


@pytest.mark.parametrize(("profile", "code"), [("development", 0), ("isolated", 15)])
def test_a_networked_host_is_allowed_in_the_development_profile_only(quiet_host, tmp_path, profile, code):
    (quiet_host / "sys/class/net/eth0").mkdir()
    write_facts(Home(tmp_path), facts_of(profile, "passphrase:"))
    done = run("--home", tmp_path, "doctor", "--sysroot", quiet_host)
    assert done.exit_code == code
    assert f"host NOT isolated, profile {profile}" in done.stdout


def test_doctor_says_plainly_that_a_key_file_is_for_the_demo_only(quiet_host, tmp_path):
    write_facts(Home(tmp_path), facts_of("development", "file:"))
    (tmp_path / "keys").mkdir()
    create_slot(tmp_path / "keys", "vault", "file:", None, b"keyring")
    shown = run("--home", tmp_path, "doctor", "--sysroot", quiet_host).output
    assert "FAIL     custody of the vault key: file: keeps the key beside what it opens" in shown
    assert "who takes the disk reads every object. For the demo only" in shown
    told = json.loads(run("--home", tmp_path, "doctor", "--sysroot", quiet_host, "--json").output)
    assert told["isolated"] is True
    vault = next(check for check in told["checks"] if check["id"] == "custody.vault")
    assert (vault["status"], vault["severity"]) == ("FAIL", "advised")


def vault_checks(quiet_host, home):
    told = json.loads(run("--home", home, "doctor", "--sysroot", quiet_host, "--json").output)
    return [check for check in told["checks"] if check["id"] == "custody.vault"]


def test_doctor_judges_the_custody_in_force_and_not_that_of_init(quiet_host, tmp_path):
    """`custody rotate` leaves home.json as it was; what lies in keys/ is what opens the vault."""
    write_facts(Home(tmp_path), facts_of("development", "file:"))
    keys = tmp_path / "keys"
    keys.mkdir()
    create_slot(keys, "vault-1", "passphrase:", bytearray(b"correct horse"), b"keyring", costs=Costs(1, 8192))
    (check,) = vault_checks(quiet_host, tmp_path)
    assert (check["status"], check["found"]) == ("OK", "passphrase:")
    assert check["evidence"] == str(keys / "vault-1.custody.json")


def test_doctor_judges_a_slot_that_waits_for_its_proof_as_well(quiet_host, tmp_path):
    write_facts(Home(tmp_path), facts_of("development", "passphrase:"))
    keys = tmp_path / "keys"
    keys.mkdir()
    create_slot(keys, "vault", "file:", None, b"keyring")
    create_slot(keys, "vault-1", "shamir:2-of-3", None, b"keyring")
    assert [check["status"] for check in vault_checks(quiet_host, tmp_path)] == ["FAIL", "OK"]


def test_doctor_does_not_call_a_custody_good_that_it_could_not_read(quiet_host, tmp_path):
    write_facts(Home(tmp_path), facts_of("development", "passphrase:"))
    (check,) = vault_checks(quiet_host, tmp_path)
    assert (check["status"], check["found"]) == ("UNKNOWN", "no slot of the vault")
    keys = tmp_path / "keys"
    (keys / "vault.custody.json").mkdir(parents=True)
    (check,) = vault_checks(quiet_host, tmp_path)
    assert check["status"] == "UNKNOWN"
    assert "restore" in check["found"]


def test_damaged_facts_are_not_taken_for_no_appliance(quiet_host, tmp_path):
    (tmp_path / "home.json").write_text("{}")
    assert run("--home", tmp_path, "doctor", "--sysroot", quiet_host).exit_code == 6


def test_a_config_with_a_wrong_key_is_refused_where_it_is_packed(people, tmp_path):
    config = tmp_path / "typo.toml"
    config.write_text('[train]\nstepz = 600\n[data]\ncorpus = "letters"\n')
    done = run(
        *("bundle", "create", config, "--to", people / "lab.recipient", "--sign", people / "alice.key"),
        *("--out", tmp_path / "out"),
    )
    assert done.exit_code == 12
    assert "typo.toml" in done.stderr
    assert "stepz" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_secret_key_given_for_a_public_one_is_not_shown(people, tmp_path):
    secret = (people / "alice.key").read_text().strip()
    words = ("--home", tmp_path / "h", "init", "--custody", "file:", "--yes")
    done = run(*words, "--trust-signer", people / "alice.key")
    assert done.exit_code == 12
    assert "expected the public half, found the secret" in done.stderr
    assert secret[-40:] not in done.output + done.stderr


@pytest.mark.parametrize("pair", ["dora", "=a", "dora="])
def test_a_role_is_given_with_its_officer(initialise, pair, tmp_path):
    done = run("--home", tmp_path / "home", "init", "--role", pair, "--yes", "--custody", "file:")
    assert done.exit_code == 2
    assert f"expected OFFICER=ROLE such as alice=data-owner, found {pair}" in done.stderr
    assert not initialise
