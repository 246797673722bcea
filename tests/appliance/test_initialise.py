"""A new appliance is complete or absent, closed to others, and holds no secret in the clear."""

from __future__ import annotations

import base64
import os
import re
import stat
import sys
from functools import partial

import pytest

import appliance.initialise as module
from appliance.age.bech32 import decode
from appliance.custody.keyring import parse_keyring
from appliance.custody.passphrase import Costs
from appliance.custody.slot import LOG_SLOT, VAULT_SLOT, open_slot
from appliance.errors import AlreadyExists, UsageError, WrongSecret
from appliance.home import Home, read_facts
from appliance.initialise import initialise
from audit.cosignature import Cosigner
from audit.errors import Malformed as MalformedKey
from audit.note import NoteSigner, VerifierKey
from audit.verify import verify_log
from policy.errors import PolicyError

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make an appliance in tmp_path/home, with a passphrase that costs little."""
    cheap = partial(module.create_slot, costs=Costs(1, 8192))
    monkeypatch.setattr(module, "create_slot", cheap)

    def make(**changed):
        given = {
            "profile": "development",
            "custody_uri": "passphrase:",
            "secret": bytearray(PASSPHRASE),
            "trust": [],
            "officers": None,
            "people": {},
        }
        return initialise(tmp_path / "home", **{**given, **changed})

    return make


def test_what_it_returns_is_what_the_genesis_entry_names(make, tmp_path):
    made = make(officers="", people={1000: "ada"}, origin="lab.example/one")
    facts = read_facts(Home(tmp_path / "home"))
    report = verify_log(tmp_path / "home/log", VerifierKey.parse(made.log_vkey))
    assert (report.size, dict(report.kinds)) == (1, {"genesis": 1})
    assert made.origin == facts.origin == report.head.origin == "lab.example/one"
    assert made.export_key_pem == facts.export_key_pem
    assert made.transfer_recipient == facts.transfer_recipient
    assert made.bundle_vkey == facts.bundle_vkey
    assert facts.people == {"1000": "ada"}
    assert facts.roles == {"ada": ("operator",)}
    assert made.tree_head.startswith("lab.example/one\n1\n")


def test_the_passphrase_is_overwritten_and_opens_the_keyring_it_named(make, tmp_path):
    secret = bytearray(PASSPHRASE)
    made = make(secret=secret)
    assert secret == bytes(len(PASSPHRASE))
    keyring = parse_keyring(open_slot(tmp_path / "home/keys", VAULT_SLOT, bytearray(PASSPHRASE)))
    assert keyring.transfer_identity.recipient.text == made.transfer_recipient
    assert keyring.export_public_pem().decode() == made.export_key_pem
    with pytest.raises(WrongSecret, match="wrong passphrase; nothing was opened"):
        open_slot(tmp_path / "home/keys", VAULT_SLOT, bytearray(b"wrong"))


FAULTS = (
    "Vault",
    "_write_policy",
    "create_slot",
    "Log",
    "genesis_record",
    "Catalog",
    "write_facts",
    "tighten",
)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("prepared", [False, True])
def test_a_failure_in_the_middle_leaves_no_home(make, tmp_path, monkeypatch, fault, prepared):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    if prepared:
        (tmp_path / "home").mkdir()
    if fault == "Log":
        monkeypatch.setattr(module.Log, "append", fail)
    else:
        monkeypatch.setattr(module, fault, fail)
    secret = bytearray(PASSPHRASE)
    with pytest.raises(OSError, match="No space left"):
        make(secret=secret)
    assert [path.name for path in tmp_path.rglob("*")] == (["home"] if prepared else [])


def test_a_second_slot_that_fails_leaves_no_home(make, tmp_path, monkeypatch):
    def fail(directory, name, *_, **__):
        assert (name, (directory / f"{LOG_SLOT}.age").exists()) == (VAULT_SLOT, True)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "create_slot", fail)
    with pytest.raises(KeyboardInterrupt):
        make()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"profile": "open"}, UsageError, "expected a profile of isolated or development, found 'open'"),
        ({"trust": ["nonsense"]}, MalformedKey, r"verifier key: expected name\+id\+key"),
        ({"officers": "nonsense"}, PolicyError, "allowed|signers"),
        ({"custody_uri": "https:"}, UsageError, "custody: expected one of passphrase:, .* found 'https:'"),
        ({"secret": None}, UsageError, "custody: expected a passphrase, found none"),
    ],
)
def test_what_is_asked_wrongly_leaves_no_home(make, tmp_path, changed, error, message):
    with pytest.raises(error, match=message):
        make(**changed)
    assert list(tmp_path.iterdir()) == []


ANN = Cosigner.from_seed("ann.example", bytes([1]) * 32).vkey.text
TWIN = Cosigner.from_seed("twin.example", bytes([1]) * 32).vkey.text
BEN = Cosigner.from_seed("ben.example", bytes([2]) * 32).vkey.text
PLAIN = NoteSigner("plain.example", bytes([3]) * 32).vkey.text


@pytest.mark.parametrize("given", [None, 1, 2])
def test_witnesses_stand_in_facts_and_genesis(make, tmp_path, given):
    make(witnesses=[ANN, f"{BEN}\n"], witness_quorum=given, origin="lab.example/one")
    facts = read_facts(Home(tmp_path / "home"))
    assert (facts.witnesses, facts.witness_quorum) == ((ANN, BEN), given or 2)
    entries = []
    verify_log(tmp_path / "home/log", VerifierKey.parse(facts.log_vkey), observe=entries.append)
    context = entries[0].context
    assert (context["witnesses"], context["witness_quorum"]) == ([ANN, BEN], given or 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"witnesses": [PLAIN]}, r"plain\.example: expected a witness's public key .* found type 0x01"),
        ({"witnesses": [ANN], "origin": "ann.example"}, "under a name of its own"),
        ({"witnesses": [ANN, ANN]}, "expected each name and each key once"),
        ({"witnesses": [ANN, TWIN]}, "expected each name and each key once"),
        ({"witnesses": [ANN, BEN], "witness_quorum": 3}, "expected a quorum of 1 to 2, found 3"),
        ({"witnesses": [ANN, BEN], "witness_quorum": 0}, "expected a quorum of 1 to 2, found 0"),
        ({"witness_quorum": 1}, "expected a quorum of 1 to 0, found 1"),
    ],
)
def test_witnesses_that_could_not_be_told_apart_or_counted_are_refused(make, tmp_path, changed, message):
    with pytest.raises(UsageError, match=message):
        make(**changed)
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_never_overwritten(make, tmp_path):
    make()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AlreadyExists, match=r"expected no appliance in .*, found files"):
        make()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_generous_umask_makes_no_home_wider(make, tmp_path):
    before = os.umask(0)
    try:
        make(custody_uri="file:", secret=None)
    finally:
        os.umask(before)
    home = tmp_path / "home"
    for path in [home, *home.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & 0o027, f"{path} is {mode:04o}"
    for path in (home / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for name in ("keys", "quarantine", "jobs", "vault/.incoming"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o700, name


def spellings(secret):
    """The forms in which a secret of 32 bytes might lie around."""
    return {
        "raw": secret,
        "hex": secret.hex().encode(),
        "HEX": secret.hex().upper().encode(),
        "base64": base64.b64encode(secret).rstrip(b"=")[:42],
        "reversed": secret[::-1],
    }


def found_in(root, needles):
    return {
        (name, str(path.relative_to(root)))
        for path in root.rglob("*")
        if path.is_file()
        for name, needle in needles.items()
        if needle in path.read_bytes()
    }


def test_no_secret_lies_in_the_home_in_argv_or_in_the_environment(make, tmp_path):
    make()
    home = tmp_path / "home"
    text = bytes(open_slot(home / "keys", VAULT_SLOT, bytearray(PASSPHRASE)))
    seed = bytes(open_slot(home / "keys", LOG_SLOT, None))
    secrets = {
        f"raw {i}": bytes.fromhex(found.decode()) for i, found in enumerate(re.findall(b"[0-9a-f]{64}", text))
    }
    identities = re.findall(rb"AGE-SECRET-KEY-1[0-9A-Z]+", text)
    assert (len(secrets), len(identities)) == (3, 2)
    for number, identity in enumerate(identities):
        secrets[f"identity {number}"] = bytes(decode(bytearray(identity))[1])
    secrets["log seed"] = seed
    needles = {f"{n} {form}": data for n, s in secrets.items() for form, data in spellings(s).items()}
    needles |= {f"text {n}": identity for n, identity in enumerate(identities)}
    needles["passphrase"] = PASSPHRASE
    assert all(len(needle) >= 28 for needle in needles.values())

    (home / "planted").write_bytes(b"x" * 999 + text + seed + PASSPHRASE)
    control = {name for name, _ in found_in(home, needles)}
    assert {
        "raw 0 hex",
        "raw 1 hex",
        "raw 2 hex",
        "text 0",
        "text 1",
        "log seed raw",
        "passphrase",
    } <= control
    (home / "planted").unlink()

    assert found_in(home, needles) == set()
    public = [*sys.argv, *os.environ, *os.environ.values()]
    outside = "\0".join(public).encode("utf-8", "surrogateescape")
    assert not [name for name, needle in needles.items() if needle in outside]


def test_the_stricter_rules_refuse_custody_that_they_would_never_open(make, tmp_path):
    with pytest.raises(UsageError, match=r"custody passphrase:: .*strict-custody-is-split-or-in-a-device"):
        make(policy="strict")
    assert not (tmp_path / "home").exists()


def test_compartments_are_facts_of_the_beginning(make, tmp_path):
    make(people={1000: "ada"}, compartments={"ada": ["b", "a", "a"], "alice@example": ["a"]})
    facts = read_facts(Home(tmp_path / "home"))
    assert facts.compartments == {"ada": ("a", "b"), "alice@example": ("a",)}
