"""What a job computed, in how many seconds, of which peak."""

from __future__ import annotations

from typing import Any

import click

from appliance.cli.output import emit_facts, emit_json, size_text
from appliance.cli.progress import duration_text
from appliance.cli.session import Session, Verb, example, json_option, pass_session

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


@click.command("account", cls=Verb, epilog=example("appliance account train-7f3a9c51e2d0"))
@click.argument("job")
@json_option
@pass_session
def account_command(session: Session, *, job: str, as_json: bool) -> None:
    """Show what JOB computed: operations, tokens, seconds, bytes read, share of the machine's peak.

    It reveals the architecture, so the rules say who may see it.
    """
    account = session.call("ShowAccount", {"job": job})["account"]
    if as_json:
        emit_json(account)
    else:
        emit_facts(account_facts(account))


def account_facts(account: dict[str, Any]) -> list[tuple[str, str]]:
    """Phrase an account, what it is of first."""
    steps = account["step"] - account["begin_step"]
    return [
        (
            "steps",
            f"{steps} (from {account['begin_step']} to {account['step']}), {account['tokens']:,} tokens",
        ),
        ("time", f"{duration_text(account['seconds'])}, steps alone {account['step_seconds']:.1f} s"),
        ("waited", f"{account['waited_seconds']:.3f} s for checkpoints"),
        ("read", f"{size_text(account['bytes_read'])} of sealed objects"),
        ("operations", f"{scaled(account['flops'])}FLOP"),
        ("  forward", f"{scaled(account['flops_forward'])}FLOP"),
        ("  backward", f"{scaled(account['flops_backward_inputs'])}FLOP to inputs"),
        ("", f"{scaled(account['flops_backward_parameters'])}FLOP to parameters"),
        ("  recomputed", f"{scaled(account['flops_recompute'])}FLOP"),
        ("peak", f"{share_text(account)} of {scaled(account['peak_flops_per_s'])}FLOP/s"),
    ]


def share_text(account: dict[str, Any]) -> str:
    """Write the share of the peak as a percentage."""
    return f"{100 * account['share_of_peak']:.1f} %"


def scaled(number: int) -> str:
    """Write a large number with three digits and a decimal prefix: `12.3 G`."""
    amount, prefix = float(number), 0
    while amount >= 1000 and prefix < len(_PREFIXES) - 1:
        amount, prefix = amount / 1000, prefix + 1
    return f"{amount:.3g} {_PREFIXES[prefix]}"
