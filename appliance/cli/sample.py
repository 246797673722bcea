"""Text from a model. What a model says is no one's word: it may not drive the terminal."""

from __future__ import annotations

import sys

import click

from appliance.cli.output import emit_json_line, printable
from appliance.cli.session import Session, Verb, example, json_option, pass_session


@click.command(
    "sample", cls=Verb, epilog=example("appliance sample first-run --prompt 'The for statement' --length 200")
)
@click.argument("model")
@click.option("--prompt", required=True, help="Text to continue; `-` reads it from standard input.")
@click.option(
    "--length", type=click.IntRange(min=1), default=256, show_default=True, help="Bytes of text, at most."
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.8,
    show_default=True,
    help="0 takes the likeliest token each time.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Choose among the k likeliest; 0: all.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Choose among the fewest that reach this chance together; 1: all.",
)
@click.option("--stop", help="End before this text appears.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The same seed gives the same text.",
)
@json_option
@pass_session
def sample_command(
    session: Session,
    *,
    model: str,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    stop: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Let MODEL, or MODEL@VERSION, continue a text; prints the prompt and what follows as it comes."""
    text = sys.stdin.read() if prompt == "-" else prompt
    parameters = {
        "model": model,
        "prompt": text,
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "stop": stop,
        "seed": seed,
    }
    begun = False
    for item in session.stream("Sample", parameters):
        if as_json:
            emit_json_line(item)
            continue
        # The prompt waits for the first piece, so that a refusal does not follow half an answer.
        click.echo(printable(item["text"] if begun else text + item["text"]), nl=False)
        begun = True
    if begun:
        click.echo()
