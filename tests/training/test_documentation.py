"""The page on training lists every key exactly as the parser knows it."""

from pathlib import Path

from appliance.training.config import KEYS, PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_every_key_is_listed_with_type_range_unit_default_and_meaning():
    expected = [
        f"| `{table}.{name}` | {key.kind.__name__} | {key.low} to {key.high} | {key.unit} "
        f"| {PRESETS['tiny'].get(table, {}).get(name, '')} | {key.meaning} |".replace("|  |", "| |")
        for table, keys in KEYS.items()
        for name, key in keys.items()
    ]
    assert [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ] == expected
