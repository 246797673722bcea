"""What is wrong with this host or this home, and how to mend it. Reads only; needs no daemon and no root."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from appliance.cli.output import emit_json, printable
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.custody.slot import RECORD, VAULT_SLOT, numbered, numbers_of, read_record
from appliance.custody.uri import FILE
from appliance.errors import Incomplete, NotIsolated, UnknownObject
from appliance.home import Facts, Home, read_facts
from appliance.isolation import Check, Severity, Status, examine, isolated
from appliance.isolation.abilities import abilities
from appliance.isolation.profile import BOOT_LINE, write_profile


@click.command("doctor", cls=Verb, epilog=example("appliance doctor --json"))
@click.option(
    "--sysroot",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="Read the host's facts below this folder.  [default: /]",
)
@click.option(
    "--fix",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="ROOT",
    help="Write the host's profile (sysctl.d, modprobe.d) below this folder, / for this host, and end.",
)
@json_option
@pass_session
def doctor_command(session: Session, *, sysroot: Path, fix: Path | None, as_json: bool) -> None:
    """Check this host and this home, and say how to mend them.

    What could not be found out counts as not isolated. Ends with 15 where the host is not isolated, unless
    the home is of the development profile.
    """
    if fix is not None:
        mend(fix)
        return
    facts = home_facts(session.home)
    host = examine(sysroot)
    found = (
        *host,
        *(abilities() if sysroot == Path("/") else ()),
        *(custody_checks(facts, session.home) if facts is not None else ()),
    )
    profile = facts.profile if facts is not None else "none"
    if as_json:
        emit_json(
            {"isolated": isolated(host), "profile": profile, "checks": [asdict(check) for check in found]}
        )
    else:
        for check in found:
            show_check(check)
        click.echo(f"host {'isolated' if isolated(host) else 'NOT isolated'}, profile {profile}")
    if not isolated(host) and profile != "development":
        raise NotIsolated("the host is not isolated; next: mend what is marked FAIL or UNKNOWN above")


def mend(root: Path) -> None:
    """Write the profile, and say what it takes to put it into force."""
    for path in write_profile(root):
        click.echo(printable(f"written  {path}"))
    click.echo("now      sysctl --system; what is loaded already stays until the next start")
    click.echo(f"boot     only the boot line changes these: {' '.join(BOOT_LINE)}")


def home_facts(home: Path) -> Facts | None:
    """Return what the home says of itself, or None where there is no appliance yet."""
    try:
        return read_facts(Home(home))
    except UnknownObject:
        return None


def custody_checks(facts: Facts, home: Path) -> tuple[Check, ...]:
    """Judge how both keys' slots are opened: the vault's by what lies there now, not by what init chose."""
    log = _custody_check(
        "log",
        facts.log_custody,
        Home(home).facts,
        "signs entries as the appliance",
        "no other custody is offered for this key yet; have witnesses or auditors keep tree heads",
    )
    return (*_vault_checks(Home(home).keys), log)


def _vault_checks(keys: Path) -> tuple[Check, ...]:
    """Judge each slot of the vault that lies there: new shares that wait for their proof open it as well.

    Raises IntegrityError for a slot whose record is damaged.
    """
    try:
        slots = [numbered(VAULT_SLOT, number) for number in numbers_of(keys, VAULT_SLOT, RECORD)]
        uris = {f"{slot}{RECORD}": read_record(keys, slot).uri for slot in slots}
    except Incomplete as unreadable:
        return (_unknown(keys, str(unreadable)),)
    mend = "give the vault another custody: `appliance custody rotate --to passphrase:`"
    found = [
        _custody_check("vault", uri, keys / name, "reads every object. For the demo only", mend)
        for name, uri in uris.items()
    ]
    return tuple(found) or (_unknown(keys, "no slot of the vault"),)


def _unknown(keys: Path, found: str) -> Check:
    return Check(
        id="custody.vault",
        title="custody of the vault key",
        severity=Severity.ADVISED,
        expected="a slot that says how the vault is opened",
        found=found,
        status=Status.UNKNOWN,
        evidence=str(keys),
        mend="restore keys/ from a backup, or ask as somebody who may read it",
        reference="",
    )


def _custody_check(slot: str, uri: str, evidence: Path, danger: str, mend: str) -> Check:
    beside = uri == FILE
    return Check(
        id=f"custody.{slot}",
        title=f"custody of the {slot} key",
        severity=Severity.ADVISED,
        expected="a secret that is not on this disk",
        found=f"{uri} keeps the key beside what it opens: who takes the disk {danger}" if beside else uri,
        status=Status.FAIL if beside else Status.OK,
        evidence=str(evidence),
        mend=mend if beside else "",
        reference="",
    )


def show_check(check: Check) -> None:
    """Print one finding; what is not right also says what was expected and how to mend it."""
    click.echo(printable(f"{check.status:<7}  {check.title}: {check.found}"))
    if check.status in (Status.FAIL, Status.UNKNOWN):
        click.echo(printable(f"         expected {check.expected} ({check.evidence})"))
        click.echo(
            printable(f"         mend: {check.mend}{f' ({check.reference})' if check.reference else ''}")
        )
