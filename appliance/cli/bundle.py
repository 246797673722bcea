"""Transfer bundles without a daemon: packed by a researcher, checked by anyone, opened by the recipient."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.age import parse_identity_file
from appliance.bundle import canonical
from appliance.bundle.create import create_bundle, sign_bundle
from appliance.bundle.dsse import MAX_ENVELOPE_BYTES
from appliance.bundle.folder import MANIFEST, BundleFolder
from appliance.bundle.heal import damaged_files, heal_bundle
from appliance.bundle.manifest import Manifest, parse_manifest, target_of
from appliance.bundle.media import bundle_at, folder_of
from appliance.bundle.names import REVOCATION, media_type_of
from appliance.bundle.open import open_bundle, read_manifest, read_signed
from appliance.bundle.signer import load_signer, load_verifier
from appliance.bundle.stream import Member
from appliance.cli.files import read_small, recipient_text
from appliance.cli.output import emit_facts, emit_json, emit_table, printable, size_text
from appliance.cli.packing import Source, kind_of, plan, plan_notice
from appliance.cli.session import Noun, example, json_option
from appliance.cli.trust import trust_in, trust_options
from appliance.errors import ContentRefused, IntegrityError, UsageError
from appliance.training.config import parse_config
from audit.note import decode_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.age import Identity

KINDS = ("corpus", "config", "weights", "approval", "revocation")
WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

bundle_argument = click.argument(
    "bundle", type=click.Path(path_type=Path), callback=lambda _context, _parameter, path: bundle_at(path)
)


@click.group("bundle", cls=Noun, epilog=example("appliance bundle inspect 0a1b2c3d.bundle"))
def bundle_command() -> None:
    """Pack, check and open transfer bundles. Needs no daemon."""


@bundle_command.command(
    "create",
    epilog=example(
        "appliance bundle create corpus/ small.toml --to appliance.recipient --sign alice.key --out stick"
    ),
)
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--kind", type=click.Choice(KINDS), help="What the bundle brings.  [default: from the files]")
@click.option("--to", "recipient", required=True, help="Recipient `age1…`, or the file that holds it.")
@click.option(
    "--sign",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    metavar="KEYFILE",
    help="Signer's NAME.key; may be repeated.",
)
@click.option(
    "--cosigner",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="VKEYFILE",
    help="Who will sign too, elsewhere, with `bundle sign`; may be repeated.",
)
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="ROOTFILE",
    help="Version of the root to take along; all of them, from the first.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder, or mounted device, to write the bundle's folder into.",
)
@click.option(
    "--name", "corpus", help="Name of the corpus that texts become.  [default: the folder's or file's]"
)
@click.option("--channel", help="Series that the bundle belongs to.  [default: the signer's name]")
@click.option(
    "--seq",
    type=click.IntRange(min=1),
    help="Number in the channel, rising.  [default: the time in milliseconds]",
)
@click.option(
    "--parity/--no-parity",
    default=True,
    show_default=True,
    help="One more file per 16 parts, from which `bundle heal` mends a damaged one.",
)
@json_option
def create_command(
    *,
    paths: tuple[Path, ...],
    kind: str | None,
    recipient: str,
    sign: tuple[Path, ...],
    cosigner: tuple[Path, ...],
    roots: tuple[Path, ...],
    out: Path,
    corpus: str | None,
    channel: str | None,
    seq: int | None,
    parity: bool,
    as_json: bool,
) -> None:
    """Pack files and folders, signed by you, for one recipient.

    Text (*.txt) becomes documents of one corpus, *.toml configs, *.safetensors weights. A request's
    folder (*.approval) becomes a bundle of the officers' signatures in it. Was the medium pulled, or the
    command cut off, repeat it as it was: it goes on with the first part that is missing.
    """
    if corpus is not None and not WORD.fullmatch(corpus):
        raise UsageError(f"--name: expected letters, digits, _ and -, found {corpus!r:.80}")
    if kind == REVOCATION and len(roots) < 2:
        raise UsageError(
            "a revocation brings a new root: expected --root for each version, from the first on"
        )
    sources = plan_notice(paths) if kind == REVOCATION else plan(paths, corpus)
    judge_configs(sources)
    signer, *also = [load_signer(path) for path in sign]
    to = recipient_text(recipient)
    out = folder_of(out) if out.exists() else out
    out.mkdir(parents=True, exist_ok=True)
    folder = create_bundle(
        [member_of(source) for source in sources],
        kind=kind or kind_of(sources),
        to=to,
        sign=signer,
        also=also,
        awaited=[load_verifier(path) for path in cosigner],
        roots=[read_small(path, "root") for path in roots],
        out_dir=out,
        channel=channel or channel_of(signer.name),
        seq=seq,
        now=datetime.now(tz=UTC),
        with_parity=parity,
    )
    if as_json:
        emit_json({"bundle": str(folder), "members": [source.member for source in sources]})
        return
    click.echo(printable(f"{folder}: {len(sources)} files, signed by {signer.name}"))


def judge_configs(sources: Sequence[Source]) -> None:
    """Refuse a config that could not be trained: here its key can be named, in the appliance it is secret."""
    for source in sources:
        if source.member.startswith("config/"):
            try:
                parse_config(source.path.read_bytes())
            except ContentRefused as refused:
                raise ContentRefused(f"{source.path}: {refused}") from refused


def member_of(source: Source) -> Member:
    """Describe a file for packing; it is opened only when its turn comes."""
    size = source.path.stat().st_size
    return Member(source.member, media_type_of(source.member), size, lambda: source.path.open("rb"))


def channel_of(signer: str) -> str:
    """Return a channel name made of a signer's name: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", signer.lower()).strip("-")[:63] or "default"


@bundle_command.command("inspect", epilog=example("appliance bundle inspect 0a1b2c3d.bundle"))
@bundle_argument
@json_option
def inspect_command(*, bundle: Path, as_json: bool) -> None:
    """Show what the manifest of BUNDLE claims. Nothing is verified: that is `bundle verify`."""
    manifest = read_unverified(bundle)
    if as_json:
        emit_json({"verified": False, "digest": manifest.digest, **asdict(manifest)})
        return
    click.echo("NOT VERIFIED: anybody could have written this", err=True)
    show_manifest(manifest)


@bundle_command.command(
    "verify", epilog=example("appliance bundle verify 0a1b2c3d.bundle --trust alice.vkey")
)
@bundle_argument
@trust_options
@click.option("--to", "recipient", help="Also check that it was made for this recipient.")
@json_option
def verify_command(
    *, bundle: Path, trust: tuple[Path, ...], trust_root: Path | None, recipient: str | None, as_json: bool
) -> None:
    """Check signatures and every file of BUNDLE. The contents stay encrypted and unread."""
    target = read_unverified(bundle).target if recipient is None else target_of(recipient_text(recipient))
    with BundleFolder.open(bundle) as folder:
        manifest = read_manifest(folder, trust_in(folder, trust, trust_root), target)
        damaged = damaged_files(folder, manifest)
        foreign = folder.foreign()
    if damaged:
        raise IntegrityError(
            f"bundle: expected every part as it was signed, found {', '.join(damaged)} missing or damaged;"
            f" next: `appliance bundle heal {bundle}`"
        )
    if as_json:
        emit_json({"verified": True, "digest": manifest.digest, "ignored": foreign, **asdict(manifest)})
        return
    show_manifest(manifest)
    show_foreign(foreign)
    click.echo(f"ok: every part is as it was signed by {', '.join(manifest.signers)}")


@bundle_command.command("heal", epilog=example("appliance bundle heal 0a1b2c3d.bundle --trust alice.vkey"))
@bundle_argument
@trust_options
@json_option
def heal_command(*, bundle: Path, trust: tuple[Path, ...], trust_root: Path | None, as_json: bool) -> None:
    """Mend damaged or lost parts of BUNDLE in place: one in every 16, from the others and their parity.

    Where its medium is write-protected, copy the folder first and heal the copy.
    """
    with BundleFolder.open(bundle) as folder:
        manifest = read_signed(folder, trust_in(folder, trust, trust_root), read_unverified(bundle).target)
        healed = heal_bundle(folder, manifest)
    if as_json:
        emit_json({"healed": list(healed)})
        return
    click.echo(f"healed {', '.join(healed)}" if healed else "nothing to heal: every file is as it was signed")


@bundle_command.command(
    "open",
    epilog=example(
        "appliance bundle open 0a1b2c3d.bundle --identity lab.identity --trust appliance.vkey --out model"
    ),
)
@bundle_argument
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    required=True,
    help="Your identity file (as `age -i` takes).",
)
@trust_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="New folder for the contents; appears when all held.",
)
@json_option
def open_command(
    *,
    bundle: Path,
    identity: Path,
    trust: tuple[Path, ...],
    trust_root: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """Verify BUNDLE, decrypt it and write its contents to a new folder."""
    identities = parse_identity_file(read_small(identity, "identity"))
    with BundleFolder.open(bundle) as folder:
        trusted = trust_in(folder, trust, trust_root)
    inner = open_bundle(bundle, pick_identity(identities, read_unverified(bundle).target), out, trusted)
    if as_json:
        emit_json({"out": str(out), **asdict(inner)})
        return
    emit_table(("SIZE", "NAME"), ((size_text(member.size), member.name) for member in inner.members))
    click.echo(f"opened into {out}")


@bundle_command.command("sign", epilog=example("appliance bundle sign 0a1b2c3d.bundle --sign bob.key"))
@bundle_argument
@click.option(
    "--sign", type=click.Path(path_type=Path), required=True, metavar="KEYFILE", help="Your NAME.key."
)
@json_option
def sign_command(*, bundle: Path, sign: Path, as_json: bool) -> None:
    """Add your signature to BUNDLE, whose maker named you with --cosigner. `bundle verify` it first."""
    with BundleFolder.open(bundle) as folder:
        manifest = sign_bundle(folder, load_signer(sign))
    if as_json:
        emit_json({"bundle": str(bundle), "signers": list(manifest.signers)})
        return
    show_manifest(manifest)


def pick_identity(identities: tuple[Identity, ...], target: str) -> Identity:
    """Return the identity that a bundle is addressed to, else the first: opening then says whose it is."""
    for identity in identities:
        if target_of(identity.recipient.text) == target:
            return identity
    return identities[0]


def read_unverified(bundle: Path) -> Manifest:
    """Parse a bundle's manifest without checking who signed it; for showing, never for deciding."""
    with BundleFolder.open(bundle) as folder:
        envelope = folder.read_file(MANIFEST, MAX_ENVELOPE_BYTES)
    value = canonical.parse(envelope, "manifest envelope", MAX_ENVELOPE_BYTES)
    fields = canonical.Fields(value, "manifest envelope")
    return parse_manifest(decode_base64(fields.text("payload", MAX_ENVELOPE_BYTES), "manifest envelope"))


def show_foreign(names: Sequence[str]) -> None:
    """List what other systems left on the medium: it was not opened."""
    if names:
        click.echo(printable(f"ignored, left by another system: {', '.join(names)}"), err=True)


def show_manifest(manifest: Manifest) -> None:
    """Print what a person compares with what they were told."""
    emit_facts(
        [
            ("bundle", manifest.bundle_id),
            ("digest", manifest.digest),
            ("brings", f"{manifest.kind}, direction {manifest.direction}"),
            ("channel", f"{manifest.channel}, number {manifest.seq}"),
            ("for", manifest.target),
            ("signers", ", ".join(manifest.signers)),
            ("issued", f"{manifest.issued_at}, expires {manifest.expires}"),
            ("parts", f"{len(manifest.parts)}, {size_text(manifest.total_bytes)} in all"),
            ("parity", f"{len(manifest.parity)} files" if manifest.parity else "none"),
        ]
    )
