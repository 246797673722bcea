"""The page on training lists every key and preset exactly as the parser knows them."""

from pathlib import Path

from appliance.training.keys import KEYS
from appliance.training.presets import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def written(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def rows(start):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines[lines.index(start) + 2 :] if line.startswith("| `")]


def test_every_key_is_listed_with_type_range_unit_default_and_meaning():
    expected = [
        f"| `{table}.{name}` | {key.kind} | {key.range} | {key.unit} "
        f"| {'' if key.default is None else written(key.default)} | {key.meaning} |".replace("  |", " |")
        for table, keys in KEYS.items()
        for name, key in keys.items()
    ]
    found = rows("| key | type | range | unit | default | meaning |")
    assert found[: len(expected)] == expected


def test_every_preset_is_listed_with_what_it_changes():
    expected = []
    for name, preset in PRESETS.items():
        changes = [
            f"`{table}.{key}` {written(value)}"
            for table, keys in preset.items()
            for key, value in keys.items()
        ]
        expected.append(f"| `{name}` | {', '.join(changes) or 'nothing: these are the defaults'} |")
    assert rows("| preset | changes |")[: len(expected)] == expected
