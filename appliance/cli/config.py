"""Configs before they are sealed: judged, written out in full, explained; without a daemon.

What `check` accepts here, the worker that trains accepts too: it runs the same parser. Whether the machine
has the memory is judged for the machine this runs on, or for one of `--memory` MiB.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from appliance.cli.output import emit_facts, emit_json, emit_table, printable
from appliance.cli.session import Noun, Verb, example, json_option
from appliance.errors import ContentRefused, UsageError
from appliance.training.config import MAX_CONFIG_BYTES, TrainConfig, parse_config
from appliance.training.keys import KEYS, Key
from appliance.training.presets import PRESETS
from appliance.training.toml import config_toml

_MIB = 1 << 20
_ANY_CORPUS = b'[data]\ncorpus = "corpus"\n'


@click.group("config", cls=Noun, epilog=example("appliance config explain"))
def config_command() -> None:
    """Check, write out and explain training configs (no daemon needed)."""


@config_command.command("check", cls=Verb, epilog=example("appliance config check small.toml"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--memory", type=click.IntRange(min=1), help="Judge for a machine of so many MiB.")
@json_option
def check_command(*, file: Path, memory: int | None, as_json: bool) -> None:
    """Judge the config in FILE, and tell what a run of it takes."""
    config = read_config(file)
    facts = costs(config, memory)
    if as_json:
        emit_json(facts)
        return
    emit_facts(
        [
            ("parameters", f"{facts['parameters']:,}"),
            (
                "tokens",
                f"{facts['tokens']:,} in {config.train.steps:,} steps of {facts['tokens_per_step']:,}",
            ),
            ("operations", f"{float(facts['flops']):.3g} floating-point operations"),
            ("memory", f"{int(facts['memory_bytes']) // _MIB:,} MiB, estimated"),
            ("digest", str(facts["config_sha256"])),
        ]
    )
    click.echo("ok")


@config_command.command("show", cls=Verb, epilog=example("appliance config show laptop-12m"))
@click.argument("what", metavar="FILE|PRESET")
def show_command(*, what: str) -> None:
    """Write out every key of the config in FILE, or of a preset, as TOML."""
    if what in PRESETS:
        click.echo(config_toml(parse_config(f'preset = "{what}"\n'.encode() + _ANY_CORPUS)), nl=False)
        return
    if not Path(what).exists():
        raise UsageError(f"config show: expected a file or one of {', '.join(PRESETS)}, found {what[:200]!r}")
    click.echo(config_toml(read_config(Path(what))), nl=False)


@config_command.command("explain", cls=Verb, epilog=example("appliance config explain train.clip"))
@click.argument("key", required=False)
@json_option
def explain_command(*, key: str | None, as_json: bool) -> None:
    """Explain KEY, or list every key with type, range and default."""
    chosen = {path: rule for path, rule in _every_key() if key is None or path == key}
    if not chosen:
        near = [path for path, _ in _every_key() if str(key).rpartition(".")[2] in path]
        hint = f"did you mean {', '.join(near)}?" if near else "`appliance config explain` lists all"
        raise UsageError(f"config explain: expected a key, found {str(key)[:80]!r}; {hint}")
    if as_json:
        emit_json({path: {**asdict(rule), "range": rule.range} for path, rule in chosen.items()})
    elif key is None:
        emit_table(
            ("KEY", "RANGE", "UNIT", "DEFAULT"),
            [(path, rule.range, rule.unit, _default(rule)) for path, rule in chosen.items()],
        )
    else:
        _explain(key, chosen[key])


def read_config(file: Path) -> TrainConfig:
    """Parse the config in a file; raises ContentRefused with file, key, expected and found."""
    with file.open("rb") as source:
        data = source.read(MAX_CONFIG_BYTES + 1)
    try:
        return parse_config(data)
    except ContentRefused as refused:
        raise ContentRefused(f"{file}: {refused}") from refused


def costs(config: TrainConfig, memory: int | None) -> dict[str, int | str]:
    """Add up what a run takes; raises ContentRefused where the machine, or `memory` MiB, is too small."""
    # Loads NumPy, which the other two have no use for.
    from appliance.training.accounting import flops_per_step, parameter_count  # noqa: PLC0415
    from appliance.training.memory import check_memory, estimate  # noqa: PLC0415
    from kernels import fastest  # noqa: PLC0415

    lanes = min(fastest()[0].LANES, config.train.batch)
    check_memory(config, lanes, None if memory is None else memory * _MIB)
    per_step = config.train.sequences * config.model.context
    return {
        "parameters": parameter_count(config.model),
        "tokens_per_step": per_step,
        "tokens": per_step * config.train.steps,
        "flops": flops_per_step(config) * config.train.steps,
        "memory_bytes": estimate(config, lanes).total,
        "config_sha256": config.digest(),
    }


def _every_key() -> list[tuple[str, Key]]:
    return [(f"{table}.{name}", rule) for table, keys in KEYS.items() for name, rule in keys.items()]


def _default(rule: Key) -> str:
    if rule.default is None:
        return "must be given"
    return str(rule.default).lower() if rule.kind == "bool" else str(rule.default)


def _explain(path: str, rule: Key) -> None:
    table, _, name = path.partition(".")
    facts = [
        ("key", path),
        ("meaning", rule.meaning),
        ("type", rule.kind),
        ("range", rule.range),
        ("unit", rule.unit or "none"),
        ("default", _default(rule)),
    ]
    for preset, tables in PRESETS.items():
        if name in tables.get(table, {}):
            facts.append((preset, str(tables[table][name])))
    emit_facts(facts)
    click.echo(
        printable("all keys: `appliance config explain`; every key of a preset: `appliance config show tiny`")
    )
