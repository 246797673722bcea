"""Checking an exported model folder, on any machine, with two public keys and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.bundle.signer import load_verifier
from appliance.cli.files import read_small
from appliance.cli.output import emit_facts, emit_json, printable
from appliance.cli.session import Verb, example, json_option
from appliance.export.verify_model import verify_model

if TYPE_CHECKING:
    from appliance.export.verify_model import Report

STILL_OWED = "still owed: that the log as it is now contains this tree head (`python -m audit verify`)"


@click.command(
    "verify-model",
    cls=Verb,
    epilog=example("appliance verify-model opened/model --log-key log.vkey --export-key export.pub"),
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--log-key", type=click.Path(path_type=Path), required=True, help="The log's public key (log.vkey)."
)
@click.option(
    "--export-key", type=click.Path(path_type=Path), required=True, help="The export key's public half (PEM)."
)
@json_option
def verify_model_command(*, folder: Path, log_key: Path, export_key: Path, as_json: bool) -> None:
    """Check signature, every file, lineage and receipts of the model in FOLDER."""
    report = verify_model(folder, load_verifier(log_key), read_small(export_key, "export key"))
    if as_json:
        emit_json(report_json(report))
    else:
        show_report(report)


def report_json(report: Report) -> dict[str, object]:
    """Return the report as JSON; the root in hex."""
    head = report.tree_head
    return {
        "model": report.model,
        "files": dict(report.files),
        "lineage": asdict(report.lineage),
        "tree_head": {"origin": head.origin, "size": head.size, "root": head.root.hex()},
    }


def show_report(report: Report) -> None:
    """Say what was checked, who made the model from how much, and what stays to be checked."""
    lineage = report.lineage
    emit_facts(
        [
            ("model", report.model),
            ("signature", f"holds over {len(report.files)} files; none missing, changed or added"),
            ("made by", f"{lineage.origin}, job {lineage.job}, profile {lineage.profile}"),
            ("made of", ", ".join(material.kind for material in lineage.materials)),
            ("form", f"architecture {lineage.form.architecture}, rounding {lineage.form.rounding}"),
            ("approved by", ", ".join(approval.person for approval in lineage.approvals) or "nobody"),
            (
                "receipts",
                f"{len(lineage.receipts)} hold under the tree head of {report.tree_head.size} entries",
            ),
        ]
    )
    if lineage.profile == "development":
        click.echo("warning: trained in the development profile, on a host that may be networked")
    click.echo(printable(f"ok; {STILL_OWED}"))
