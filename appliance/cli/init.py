"""Making an appliance: its keys, its log with the genesis entry, the signers and people it trusts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import click

from appliance.cli.ceremony import hand_out, obtain_new_secret
from appliance.cli.custody import shares_fd_option
from appliance.cli.files import read_text, write_new
from appliance.cli.guide import ask
from appliance.cli.output import emit_facts, emit_json, printable
from appliance.cli.passphrase import passphrase_fd_option
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.custody.uri import canonical, shares_needed
from appliance.egress import parse_budgets
from appliance.errors import UsageError
from policy.quorum import parse_quorums

LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PROFILES = ("isolated", "development")
PUBLIC_FILES = {
    "transfer_recipient": "transfer.recipient",
    "log_vkey": "log.vkey",
    "log_pq_vkey": "log-pq.vkey",
    "tree_head": "tree-head.note",
    "bundle_vkey": "bundle.vkey",
    "export_key_pem": "export.pub",
}
DEMO_WARNING = "warning: custody file: keeps the key beside what it opens. For the demo only"


@click.command(
    "init",
    cls=Verb,
    epilog=example("appliance init --trust-signer alice.vkey --officers officers --person 1000=carol"),
)
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="isolated",
    show_default=True,
    help="isolated refuses to train on a networked host; development says so in every entry instead.",
)
@click.option(
    "--custody",
    metavar="URI",
    default="passphrase:",
    show_default=True,
    help="How the vault is unsealed: passphrase:, shamir:K-of-N, tpm:, pkcs11:…, or for the demo file:.",
)
@click.option(
    "--recovery",
    metavar="RECIPIENT",
    default="",
    help="Recipient (age1…) of an identity kept offline, which opens keyring and objects as well.",
)
@click.option("--hybrid", is_flag=True, help="Post-quantum hybrid keys (needs age 1.3 to open outside).")
@click.option(
    "--post-quantum-log",
    is_flag=True,
    help="Sign the log's tree heads with ML-DSA-44 too, 3 kB in each receipt.",
)
@click.option(
    "--trust-root",
    type=click.Path(path_type=Path),
    metavar="ROOTFILE",
    help="Version 1 of the root that says who signs which bundles, in the place of single signers.",
)
@click.option(
    "--trust-signer",
    "trust",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="VKEYFILE",
    help="Signer whose bundles are taken in; may be repeated.",
)
@click.option(
    "--officers",
    type=click.Path(path_type=Path),
    metavar="ALLOWED_SIGNERS",
    help="OpenSSH allowed-signers file of those who approve.",
)
@click.option(
    "--witness",
    "witnesses",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="VKEYFILE",
    help="Who cosigns the log's tree heads, with a stick; may be repeated.",
)
@click.option(
    "--witness-quorum",
    type=click.IntRange(min=1),
    metavar="K",
    help="How many of them must cosign a head.  [default: all]",
)
@click.option(
    "--person", "people", multiple=True, metavar="UID=NAME", help="A user of this host and the person it is."
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="OFFICER=ROLE",
    help="A role that an officer holds beside that of officer, such as data-owner; may be repeated.",
)
@click.option(
    "--quorum",
    type=click.Path(path_type=Path),
    metavar="TOMLFILE",
    help="How many officers must approve what, and in which roles.  [default: two]",
)
@click.option(
    "--budget",
    type=click.Path(path_type=Path),
    metavar="TOMLFILE",
    help="What may leave in a period, in bytes and number.  [default: docs/officers.md]",
)
@click.option(
    "--compartment",
    "labels",
    multiple=True,
    metavar="NAME=LABEL",
    help="What a person, or all that a signer sends, is told apart by; may be repeated.",
)
@click.option(
    "--policy",
    type=click.Choice(("default", "strict")),
    default="default",
    show_default=True,
    help="The rules to begin with; `appliance policy load` changes them.",
)
@click.option("--origin", help="Name of the log, unique in the world; made up if left out.")
@click.option(
    "--public",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write the public keys to, for those who check and send.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--guided", is_flag=True, help="Ask for profile, custody, rules, officers, signers and people.")
@passphrase_fd_option
@shares_fd_option
@json_option
@pass_session
def init_command(
    session: Session,
    *,
    profile: str,
    custody: str,
    recovery: str,
    hybrid: bool,
    post_quantum_log: bool,
    trust: tuple[Path, ...],
    trust_root: Path | None,
    officers: Path | None,
    witnesses: tuple[Path, ...],
    witness_quorum: int | None,
    people: tuple[str, ...],
    labels: tuple[str, ...],
    policy: str,
    roles: tuple[str, ...],
    quorum: Path | None,
    budget: Path | None,
    origin: str | None,
    public: Path | None,
    yes: bool,
    guided: bool,
    passphrase_fd: int | None,
    shares_fd: int | None,
    as_json: bool,
) -> None:
    """Make a new appliance in the home folder. Works offline; no daemon runs yet.

    With --guided the choices are asked for, and the command that makes the same without questions is printed.
    """
    if guided:
        chosen = ask()
        profile, custody, policy = chosen.profile, chosen.custody, chosen.policy
        officers, trust, people, public = chosen.officers, chosen.trust, chosen.people, chosen.public
        click.echo(f"\nThe same without questions:\n  {chosen.command(session.home)}\n", err=True)
    enrolled = parse_people(people)
    signers = [read_text(path, "signer").strip() for path in trust]
    if signers and trust_root is not None:
        raise UsageError("expected --trust-signer or --trust-root, and not both")
    allowed = read_text(officers, "officers") if officers is not None else None
    watching = [read_text(path, "witness").strip() for path in witnesses]
    custody = canonical(custody)
    held = parse_roles(roles)
    quorums = parse_quorums(read_text(quorum, "quorum")) if quorum is not None else None
    budgets = parse_budgets(read_text(budget, "budget") if budget is not None else "")
    if custody == "file:":
        click.echo(DEMO_WARNING, err=True)
    if not yes:
        question = (
            f"Make a new appliance in {session.home}, profile {profile}, custody {custody}, "
            f"{len(signers)} trusted signers, {len(watching)} witnesses, {len(enrolled)} people?"
        )
        click.confirm(question, abort=True, err=True)
    secret, needed = obtain_new_secret(custody, passphrase_fd), shares_needed(custody)
    # Late, so that a refused question costs nothing and `--help` stays quick.
    from appliance.initialise import initialise  # noqa: PLC0415  loads cryptography, policy and log

    result = initialise(
        session.home,
        profile=profile,
        custody_uri=custody,
        secret=secret,
        trust=signers,
        trust_root=read_text(trust_root, "root") if trust_root is not None else "",
        officers=allowed,
        people=enrolled,
        compartments=parse_labels(labels),
        policy=policy,
        hybrid=hybrid,
        post_quantum_log=post_quantum_log,
        witnesses=watching,
        witness_quorum=witness_quorum,
        officer_roles=held,
        quorums=quorums,
        budgets=budgets,
        origin=origin,
        recovery=recovery,
        hand_out=(lambda made: hand_out(made.shares, needed, shares_fd)) if needed else None,
    )
    made = dataclasses.asdict(result)
    if public is not None:
        write_public(made, public)
    show_result(made, session, public, as_json=as_json)


def parse_labels(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    """Parse `NAME=LABEL` pairs; raises UsageError for another form of label."""
    labels: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, label = pair.rpartition("=")
        if not name or not LABEL.fullmatch(label):
            raise UsageError(f"--compartment: expected NAME=LABEL such as carol=clinical, found {pair}")
        labels.setdefault(name, []).append(label)
    return labels


def parse_people(pairs: tuple[str, ...]) -> dict[int, str]:
    """Parse `UID=NAME` pairs. Raises UsageError for another form or a uid named twice."""
    people: dict[int, str] = {}
    for pair in pairs:
        uid, equals, person = pair.partition("=")
        if not equals or not person or not uid.isascii() or not uid.isdecimal():
            raise UsageError(f"--person: expected UID=NAME such as 1000=carol, found {pair}")
        if int(uid) in people:
            raise UsageError(f"--person: expected each uid once, found {uid} twice")
        people[int(uid)] = person
    return people


def parse_roles(pairs: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Parse `OFFICER=ROLE` pairs into roles by name. Raises UsageError for another form."""
    roles: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        person, equals, role = pair.partition("=")
        if not equals or not person or not role:
            raise UsageError(f"--role: expected OFFICER=ROLE such as alice=data-owner, found {pair}")
        roles[person] = (*roles.get(person, ()), role)
    return roles


def made_files(result: dict[str, Any]) -> dict[str, str]:
    """Return the public files that this appliance has: not each has a post-quantum key of its log."""
    return {field: name for field, name in PUBLIC_FILES.items() if result[field]}


def write_public(result: dict[str, Any], folder: Path) -> None:
    """Write what others need as files: auditors the log's key and head, recipients the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    for field, name in made_files(result).items():
        write_new(folder / name, f"{str(result[field]).strip()}\n".encode())


def show_result(result: dict[str, Any], session: Session, public: Path | None, *, as_json: bool) -> None:
    """Print the public keys that others need, and what to do next."""
    if as_json:
        emit_json(result)
        return
    emit_facts([("home", str(session.home)), ("origin", result["origin"]), ("profile", result["profile"])])
    if public is None:
        for field in made_files(result):
            click.echo(printable(f"\n{field.replace('_', ' ')}:\n{str(result[field]).strip()}"))
    else:
        emit_facts([(name, str(public / name)) for name in made_files(result).values()])
    click.echo(
        "next: give researchers the transfer recipient, and auditors the log key and tree head, to witness\n"
        f"at once; then `appliance --home {session.home} daemon --detach` and `appliance unseal`"
    )
