"""The sender's check of a receipt: what was sent came in, and the log of the appliance says so."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.age import parse_identity_file
from appliance.bundle.folder import BundleFolder
from appliance.bundle.media import bundle_at
from appliance.bundle.names import RECEIPT_ENTRY, RECEIPT_PROOF
from appliance.bundle.open import open_bundle, read_signed
from appliance.bundle.signer import load_verifier
from appliance.bundle.trust import anyone_of
from appliance.cli.bundle import pick_identity, read_unverified
from appliance.cli.files import read_small
from appliance.cli.output import emit_facts, emit_json
from appliance.cli.session import example, json_option
from appliance.errors import IntegrityError, SignatureError
from audit.errors import AuditError
from audit.receipt import verify_receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.bundle.manifest import Manifest
    from audit.receipt import VerifiedReceipt


@click.command(
    "verify-receipt",
    epilog=example(
        "appliance verify-receipt 0a1b2c3d.bundle --sent 3f9a01c2.bundle --sender alice.vkey"
        " --identity lab.identity --trust appliance.vkey --log-key log.vkey"
    ),
)
@click.argument("receipt", type=click.Path(path_type=Path))
@click.option("--sent", type=click.Path(path_type=Path), required=True, help="The bundle that you sent.")
@click.option("--sender", type=click.Path(path_type=Path), required=True, help="Its signer's NAME.vkey.")
@click.option(
    "--identity",
    type=click.Path(path_type=Path),
    required=True,
    help="Identity that RECEIPT is encrypted to.",
)
@click.option("--trust", type=click.Path(path_type=Path), required=True, help="The appliance's bundle vkey.")
@click.option("--log-key", type=click.Path(path_type=Path), required=True, help="The appliance's log vkey.")
@json_option
def verify_receipt_command(
    *, receipt: Path, sent: Path, sender: Path, identity: Path, trust: Path, log_key: Path, as_json: bool
) -> None:
    """Check RECEIPT, a bundle that an appliance sent back: it proves that the bundle you sent came in."""
    with BundleFolder.open(bundle_at(sent)) as folder:
        ours = read_signed(
            folder, anyone_of([load_verifier(sender)]), read_unverified(bundle_at(sent)).target
        )
    bundle = bundle_at(receipt)
    identities = parse_identity_file(read_small(identity, "identity"))
    with tempfile.TemporaryDirectory(prefix="receipt-") as scratch:
        out = Path(scratch) / "opened"
        holder = pick_identity(identities, read_unverified(bundle).target)
        open_bundle(bundle, holder, out, anyone_of([load_verifier(trust)]))
        entry = read_small(out / RECEIPT_ENTRY, "receipt")
        proof = read_small(out / RECEIPT_PROOF, "receipt")
    try:
        verified = verify_receipt(proof, entry, load_verifier(log_key))
    except AuditError as error:
        raise SignatureError(
            f"receipt: expected proof of a log entry, found none that holds: {error}"
        ) from error
    demand_same(ours, verified)
    said: Mapping[str, Any] = verified.entry.context
    if as_json:
        emit_json({"index": verified.index, "time": verified.entry.time, "objects": said["objects"]})
        return
    emit_facts(
        [
            ("came in", f"bundle {ours.bundle_id}, as log entry {verified.index} of {verified.head.origin}"),
            ("at", f"{verified.entry.time}, by that machine's clock"),
            ("objects", str(len(said["objects"]))),
        ]
    )


def demand_same(sent: Manifest, receipt: VerifiedReceipt) -> None:
    """Raise IntegrityError unless a receipt is for the bundle that was sent."""
    said: Mapping[str, Any] = receipt.entry.context
    found = said.get("manifest_sha256") if receipt.entry.kind == "bundle-imported" else None
    if found != sent.digest:
        raise IntegrityError(
            f"receipt: expected one for the manifest {sent.digest}, found one for {found}; it belongs to"
            " another bundle"
        )
