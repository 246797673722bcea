"""Make an appliance: keys, empty log, rules, and a genesis entry that names them all.

Everything is built in a folder beside the home and renamed into place at the end, so a home is complete or
absent. The genesis entry is the root of later comparisons; have it witnessed, or note its tree head on paper,
before the appliance is used.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.age import parse_recipient
from appliance.bundle.root import verify_first
from appliance.bundle.signer import SignerKey
from appliance.catalog import Catalog
from appliance.custody.keyring import Keyring
from appliance.custody.logkeys import create_log_key
from appliance.custody.slot import VAULT_SLOT, Created, create_slot
from appliance.custody.uri import FILE, canonical, what_is_asked
from appliance.egress import DEFAULTS, Budgets
from appliance.errors import AlreadyExists, UsageError
from appliance.home import FORMAT, PROFILES, Facts, Home, write_facts
from appliance.ruleset import demand_openable
from appliance.vault import Vault
from audit.entry import JSON, Record
from audit.log import Log
from audit.note import COSIGNATURE_V1, VerifierKey
from policy.allowed_signers import parse_allowed_signers
from policy.engine import Engine, shipped
from policy.quorum import ROLE, Quorums, demand_reachable

GENESIS = "genesis"
OPERATOR = "operator"
OFFICER = "officer"
HandOut = Callable[[Created], None]
"""Gives a new slot's shares to people; what it raises ends the making, and nothing is left."""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What a new appliance tells its people: public keys to keep elsewhere, and the head of its log."""

    origin: str
    profile: str
    log_vkey: str
    log_pq_vkey: str
    bundle_vkey: str
    export_key_pem: str
    transfer_recipient: str
    tree_head: str


def initialise(
    root: Path,
    *,
    profile: str,
    custody_uri: str,
    secret: bytearray | None,
    trust: Sequence[str],
    trust_root: str = "",
    officers: str | None,
    people: Mapping[int, str],
    compartments: Mapping[str, Sequence[str]] | None = None,
    officer_roles: Mapping[str, Sequence[str]] | None = None,
    quorums: Quorums | None = None,
    budgets: Budgets = DEFAULTS,
    policy: str = "default",
    hybrid: bool = False,
    post_quantum_log: bool = False,
    witnesses: Sequence[str] = (),
    witness_quorum: int | None = None,
    origin: str | None = None,
    recovery: str = "",
    hand_out: HandOut | None = None,
) -> Initialised:
    """Make an appliance in `root`, which must not exist or be empty.

    `secret` is what a person gives for this custody, a passphrase or PIN, overwritten here; `hand_out` takes
    the shares of `shamir:` custody; `recovery` is the recipient of an identity kept offline; `trust` are the
    vkeys of bundle signers, `officers` an OpenSSH allowed-signers text, `people` maps uids to names (this uid
    is `operator` where nobody is named), `witnesses` are vkeys of whom `witness_quorum` (all) must cosign a
    tree head. `officer_roles` names roles that officers hold beside that of officer, `quorums` how many of
    them must approve what, which they must be able to, `budgets` what may leave in a period, `policy` the
    rules to begin with. `compartments` are the labels that people, and what signers send, carry, by name.
    Raises AlreadyExists, UsageError, or what the parsers of its inputs raise.
    """
    if profile not in PROFILES:
        raise UsageError(f"expected a profile of {' or '.join(PROFILES)}, found {profile!r}")
    if root.exists() and any(root.iterdir()):
        raise AlreadyExists(f"expected no appliance in {root}, found files: choose another folder")
    uri = canonical(custody_uri)
    if what_is_asked(uri) == "shares" and hand_out is None:
        raise UsageError(f"custody {uri}: expected somebody to hand the shares to, found nobody")
    _check_recovery(recovery, hybrid=hybrid)
    for vkey in trust:
        VerifierKey.parse(vkey)
    if trust_root:
        verify_first(trust_root.encode("utf-8"))
    signers = parse_allowed_signers(officers) if officers else ()
    enrolled = dict(people) or {os.getuid(): OPERATOR}
    log_name = origin or f"appliance.invalid/{secrets.token_hex(4)}"
    quorum = len(witnesses) if witness_quorum is None else witness_quorum
    _check_witnesses(witnesses, quorum, log_name)
    roles = _roles(enrolled.values(), [signer.person for signer in signers], officer_roles or {})
    if quorums is not None:
        demand_reachable(quorums, {name: held for name, held in roles.items() if OFFICER in held})
    demand_openable(Engine(*shipped(policy)), profile, uri)
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = Home(root.with_name(f".{root.name}.{secrets.token_hex(4)}"))
    scratch.root.mkdir(mode=0o750)
    try:
        made = _build(
            scratch,
            log_name,
            profile=profile,
            custody=uri,
            secret=secret,
            trust=trust,
            root=trust_root,
            officers=officers or "",
            enrolled=enrolled,
            roles=roles,
            quorums=quorums or {},
            budgets=budgets,
            policy=policy,
            compartments=compartments or {},
            hybrid=hybrid,
            post_quantum_log=post_quantum_log,
            witnesses=witnesses,
            witness_quorum=quorum,
            recovery=recovery,
            hand_out=hand_out,
        )
        tighten(scratch.root)
        if root.exists():
            root.rmdir()
        scratch.root.rename(root)
    except BaseException:
        shutil.rmtree(scratch.root, ignore_errors=True)
        raise
    return made


def tighten(root: Path) -> None:
    """Take from everybody else what a generous umask gave them: nobody may write, strangers may not read."""
    for path in root.rglob("*"):
        path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IRWXO))


def _check_recovery(text: str, *, hybrid: bool) -> None:
    """Refuse a recovery recipient of the other kind: the weaker one would undo what the stronger protects."""
    if text and parse_recipient(text).post_quantum != hybrid:
        expected = "a post-quantum recipient (age1pq1…)" if hybrid else "an X25519 recipient (age1…)"
        raise UsageError(f"recovery: expected {expected} as the vault's own, found the other kind")


def _check_witnesses(texts: Sequence[str], quorum: int, origin: str) -> None:
    """Refuse witnesses that could not be told apart, or of whom too many or none are demanded."""
    keys = [VerifierKey.parse(text) for text in texts]
    for key in keys:
        if key.key_type != COSIGNATURE_V1 or key.name == origin:
            raise UsageError(
                f"witness {key.name}: expected a witness's public key (type 0x04) under a name of its own, "
                f"found type 0x{key.key_type:02x}; `python -m audit witness --init NAME` makes one"
            )
    if len({key.name for key in keys}) != len(keys) or len({key.public_key for key in keys}) != len(keys):
        raise UsageError("witnesses: expected each name and each key once, found one twice")
    if not min(1, len(keys)) <= quorum <= len(keys):
        raise UsageError(f"witnesses: expected a quorum of 1 to {len(keys)}, found {quorum}")


def _roles(
    people: Iterable[str], officers: Sequence[str], more: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    roles: dict[str, tuple[str, ...]] = dict.fromkeys(people, (OPERATOR,))
    if strangers := sorted(more.keys() - set(officers)):
        raise UsageError(f"expected a role of an officer, found {strangers[0]}, whom no officers file lists")
    for name in officers:
        held = more.get(name, ())
        for role in held:
            if not ROLE.fullmatch(role) or role == OPERATOR:
                raise UsageError(f"expected a role such as data-owner for {name}, found {role[:40]!r}")
        roles[name] = tuple(sorted({*roles.get(name, ()), OFFICER, *held}))
    return roles


def _build(
    home: Home,
    origin: str,
    *,
    profile: str,
    custody: str,
    secret: bytearray | None,
    trust: Sequence[str],
    root: str,
    officers: str,
    enrolled: Mapping[int, str],
    roles: Mapping[str, tuple[str, ...]],
    policy: str,
    compartments: Mapping[str, Sequence[str]],
    quorums: Quorums,
    budgets: Budgets,
    hybrid: bool,
    post_quantum_log: bool,
    witnesses: Sequence[str],
    witness_quorum: int,
    recovery: str,
    hand_out: HandOut | None,
) -> Initialised:
    for folder in (home.keys, home.run, home.quarantine, home.jobs):
        folder.mkdir(mode=0o750 if folder == home.run else 0o700)
    Vault(home.vault).create()
    policy_set = _write_policy(home, policy)
    home.officers.write_text(officers, "utf-8")
    keyring = Keyring.generate(hybrid=hybrid)
    signer = create_log_key(home.keys, 0, origin, FILE, post_quantum=post_quantum_log)
    facts = Facts(
        format=FORMAT,
        origin=origin,
        profile=profile,
        log_vkey=signer.keys[0].text,
        log_pq_vkey=signer.keys[1].text if post_quantum_log else "",
        bundle_vkey=SignerKey.from_seed(f"{origin}/bundle", keyring.bundle_seed).vkey.text,
        export_key_pem=keyring.export_public_pem().decode("ascii"),
        vault_recipient=keyring.vault_identity.recipient.text,
        transfer_recipient=keyring.transfer_identity.recipient.text,
        custody=custody,
        log_custody=FILE,
        policy_set=policy_set,
        officers_sha256=hashlib.sha256(officers.encode("utf-8")).hexdigest(),
        trust=tuple(trust),
        root=root,
        witnesses=tuple(text.removesuffix("\n") for text in witnesses),
        witness_quorum=witness_quorum,
        people={str(uid): name for uid, name in sorted(enrolled.items())},
        roles=roles,
        compartments={name: tuple(sorted(set(labels))) for name, labels in compartments.items()},
        recovery=recovery,
        quorums={action: dict(quorum) for action, quorum in quorums.items()},
        budgets={content: dict(limits) for content, limits in budgets.items()},
    )
    plain = keyring.encode()
    try:
        slot = create_slot(
            home.keys,
            VAULT_SLOT,
            custody,
            secret,
            plain,
            hybrid=hybrid,
            recovery=parse_recipient(recovery) if recovery else None,
        )
        if slot.shares and hand_out is not None:
            hand_out(slot)
        log = Log.create(home.log, signer, time.time)
        try:
            log.append([genesis_record(facts, officers, slot.record.digest)])
            head = log.tree_head().decode("utf-8")
        finally:
            log.close()
    finally:
        for buffer in (plain, *([secret] if secret is not None else [])):
            buffer[:] = bytes(len(buffer))
        keyring.wipe()
    Catalog(home.catalog).close()
    write_facts(home, facts)
    return Initialised(
        facts.origin,
        facts.profile,
        facts.log_vkey,
        facts.log_pq_vkey,
        facts.bundle_vkey,
        facts.export_key_pem,
        facts.transfer_recipient,
        head,
    )


def _write_policy(home: Home, policy: str) -> str:
    """Copy rules that ship into the home, where the log's digest pins them; return that digest."""
    rules, schema = shipped(policy)
    home.policy.mkdir(mode=0o750)
    for name, text in rules.items():
        (home.policy / name).write_text(text, "utf-8")
    (home.policy / "schema.cedarschema").write_text(schema, "utf-8")
    return Engine(rules, schema).digest


def genesis_record(facts: Facts, officers: str, custody_record: str) -> Record:
    """Return the first record of an appliance's log, which names all that it begins with.

    `custody_record` is the digest of the vault's slot record, which says how it is opened.
    """
    context: dict[str, JSON] = {
        "facts_sha256": facts.digest,
        "facts": base64.b64encode(facts.canonical()).decode("ascii"),
        "log_vkey": facts.log_vkey,
        "log_pq_vkey": facts.log_pq_vkey,
        "bundle_vkey": facts.bundle_vkey,
        "export_key": facts.export_key_pem,
        "vault_recipient": facts.vault_recipient,
        "transfer_recipient": facts.transfer_recipient,
        "profile": facts.profile,
        "custody": facts.custody,
        "custody_record": custody_record,
        "recovery": facts.recovery,
        "log_custody": facts.log_custody,
        "policy_set": facts.policy_set,
        "officers": officers,
        "trust": list(facts.trust),
        "root": facts.root,
        "witnesses": list(facts.witnesses),
        "witness_quorum": facts.witness_quorum,
        "people": dict(facts.people),
        "quorums": dict(facts.quorums),
        "budgets": dict(facts.budgets),
    }
    return Record(GENESIS, "Custodian:custodian", "init", f"Appliance:{facts.origin}", context)
