"""A config written out in full as TOML, which `parse_config` reads to the same value."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from appliance.training.config import TrainConfig
from appliance.training.keys import KEYS, Key


def config_toml(config: TrainConfig) -> str:
    """Every key in the order of the vocabulary, with its unit and meaning as a remark."""
    values = asdict(config)
    lines: list[str] = []
    for table, keys in KEYS.items():
        lines.append(f"[{table}]")
        for name, rule in keys.items():
            unit = f" ({rule.unit})" if rule.unit else ""
            lines.append(f"{name} = {_written(rule, values[table][name])}  # {rule.meaning}{unit}")
        lines.append("")
    return "\n".join(lines)


def _written(rule: Key, value: Any) -> str:
    if rule.kind == "corpus":
        if len(value) == 1:
            return f'"{value[0][0]}"'
        return "{ " + ", ".join(f'"{name}" = {weight!r}' for name, weight in value) + " }"
    if rule.kind == "bool":
        return str(value).lower()
    if rule.kind in ("word", "name"):
        return f'"{value}"'
    if rule.words and value == 0:  # all cores
        return f'"{rule.words[0]}"'
    return repr(value)
