"""Training computed again: by the appliance, against its log, or by an auditor who was given the objects."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from appliance.cli.files import read_small, read_text
from appliance.cli.output import emit_json_line, printable
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.errors import IntegrityError, UsageError
from appliance.training.blas import blas_environment
from audit.entry import Entry, parse_entry
from audit.errors import Invalid
from audit.opening import verify_claims

SALT_BYTES = 32
_KINDS = ("weights", "optimizer")


@click.command(
    "replay", cls=Verb, epilog=example("appliance replay train-7f3a9c51e2d0 --from 500 --steps 500")
)
@click.argument("job")
@click.option(
    "--from", "from_step", type=click.IntRange(min=0), required=True, help="Step to begin at, or before it."
)
@click.option("--steps", type=click.IntRange(min=1), required=True, help="How many steps to compute.")
@json_option
@pass_session
def replay_command(session: Session, *, job: str, from_step: int, steps: int, as_json: bool) -> None:
    """Compute a stretch of JOB again and compare each checkpoint on the way with the log.

    Begins at the checkpoint at or before the step given; 0 begins with the first weights.
    """
    compared, last = 0, dict[str, Any]()
    for item in session.stream("Replay", {"job": job, "from_step": from_step, "steps": steps}):
        if as_json:
            emit_json_line(item)
        if item.get("weights_equal") is None:
            continue
        compared, last = compared + 1, item
        if not as_json:
            click.echo(printable(_comparison_text(item)))
    if last and not (last["weights_equal"] and last["optimizer_equal"]):
        raise IntegrityError(f"job {job}: {_difference_text(last)}")
    if not as_json:
        click.echo(f"{compared} checkpoints are what the log says")


def _comparison_text(item: dict[str, Any]) -> str:
    words = {True: "equal", False: "DIFFERENT"}
    return (
        f"step {item['step']}: weights {words[item['weights_equal']]} (log entry {item['weights_entry']}), "
        f"optimizer {words[item['optimizer_equal']]} (log entry {item['optimizer_entry']})"
    )


def _difference_text(item: dict[str, Any]) -> str:
    text = f"the first difference is at step {item['step']}"
    if item["made_on"] != item["backend"]:
        text += f"; it was made on {item['made_on']} and computed again on {item['backend']}, which rounds"
        text += " differently: replay it where the same backend runs"
    return text


@click.command(
    "recompute",
    cls=Verb,
    epilog=example("appliance recompute config.toml --corpus corpus --to 500 --claim 57.entry 57.salt"),
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--corpus", type=click.Path(path_type=Path), multiple=True, required=True, help="Plaintext of the corpus."
)
@click.option(
    "--tokenizer", type=click.Path(path_type=Path), help="The job's tokenizer, where it reads byte pairs."
)
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Weights to begin with; none: the first ones."
)
@click.option("--optimizer", type=click.Path(path_type=Path), help="Optimizer's state that belongs to them.")
@click.option(
    "--to",
    "steps",
    type=click.IntRange(min=0),
    multiple=True,
    required=True,
    help="Step to hash the state of.",
)
@click.option(
    "--claim",
    "claims",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    multiple=True,
    metavar="ENTRY SALT",
    help="Files: an entry that created an object, and its salt.",
)
@json_option
def recompute_command(
    *,
    config: Path,
    corpus: tuple[Path, ...],
    tokenizer: Path | None,
    weights: Path | None,
    optimizer: Path | None,
    steps: tuple[int, ...],
    claims: tuple[tuple[Path, Path], ...],
    as_json: bool,
) -> None:
    """Compute training steps again from opened objects, on any machine, without a daemon.

    The files are plaintexts, as `age -d` opens them. Each state is hashed as the file that is sealed; with
    an entry of the log and its salt, which `appliance audit salt` hands out, the two are compared.
    """
    if (weights is None) != (optimizer is None):
        raise UsageError("recompute: expected both --weights and --optimizer, or neither")
    _begin_anew_with_one_blas_thread()
    from appliance.cli.recomputing import recompute  # noqa: PLC0415  loads NumPy, which reads its settings then

    wanted = [(read_entry(path), read_salt(salt)) for path, salt in claims]
    open_claims = list(wanted)
    for found in recompute(config, corpus, tokenizer, weights, optimizer, sorted(set(steps))):
        equal = [
            claim
            for claim in open_claims
            if _is_claimed(*claim, found.step, (found.weights, found.optimizer))
        ]
        open_claims = [claim for claim in open_claims if claim not in equal]
        told = {
            "step": found.step,
            "weights_sha256": found.weights,
            "optimizer_sha256": found.optimizer,
            "equal_to_entries": [entry.seq for entry, _ in equal],
        }
        if as_json:
            emit_json_line(told)
        else:
            same = "".join(f"  = entry {entry.seq}" for entry, _ in equal)
            click.echo(f"step {found.step}: weights {found.weights} optimizer {found.optimizer}{same}")
    if open_claims:
        entries = ", ".join(str(entry.seq) for entry, _ in open_claims)
        raise IntegrityError(
            f"recompute: no state computed here is what entries {entries} commit to: they were of "
            "other steps, or were computed by another program or backend"
        )


def read_entry(path: Path) -> Entry:
    """Read an entry that created weights or an optimizer's state; raises UsageError for another one."""
    entry = parse_entry(read_small(path, "log entry"))
    if entry.kind != "object-created" or entry.context.get("kind") not in _KINDS:
        raise UsageError(
            f"{path}: expected an entry that created weights or an optimizer, found {entry.kind}"
        )
    return entry


def read_salt(path: Path) -> bytes:
    """Read the salt of an entry, as `appliance audit salt` writes it; raises UsageError."""
    text = read_text(path, "salt").strip()
    try:
        salt = bytes.fromhex(text)
    except ValueError:
        salt = b""
    if len(salt) != SALT_BYTES:
        raise UsageError(
            f"{path}: expected a salt of {2 * SALT_BYTES} hex digits, found {len(text)} characters"
        )
    return salt


def _is_claimed(entry: Entry, salt: bytes, step: int, digests: tuple[str, str]) -> bool:
    digest = digests[_KINDS.index(str(entry.context["kind"]))]
    try:
        verify_claims(entry, salt, {"plaintext_sha256": digest, "steps": str(step)})
    except Invalid:
        return False
    return True


def _begin_anew_with_one_blas_thread() -> None:
    """Run this command again with a worker's settings, unless it has them: they decide how sums round."""
    cpuinfo = Path("/proc/cpuinfo")
    settings = blas_environment(cpuinfo.read_text("utf-8") if cpuinfo.exists() else "")
    if any(os.environ.get(name) != value for name, value in settings.items()):
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **settings})  # noqa: S606  our own command line
