"""How well a model predicts a corpus."""

from __future__ import annotations

import click

from appliance.cli.output import emit_facts, emit_json
from appliance.cli.session import Session, Verb, example, json_option, pass_session


@click.command("evaluate", cls=Verb, epilog=example("appliance evaluate first-run --corpus python-reference"))
@click.argument("model")
@click.option("--corpus", required=True, help="Name of a sealed corpus.")
@json_option
@pass_session
def evaluate_command(session: Session, *, model: str, corpus: str, as_json: bool) -> None:
    """Measure how well MODEL predicts every document of a corpus, in bits per byte and nats per token.

    A corpus that the model was trained on measures memory as well as skill.
    """
    found = session.call("Evaluate", {"model": model, "corpus": corpus})
    if as_json:
        emit_json(found)
        return
    emit_facts(
        [
            ("bits per byte", f"{found['bits_per_byte']:.5f}"),
            ("nats per token", f"{found['nats_per_token']:.5f}"),
            ("predicted", f"{found['tokens']:,} tokens, {found['size_bytes']:,} bytes"),
        ]
    )
