"""The command line: one verb per intention, one module per noun, loaded only when its verb is typed."""

from __future__ import annotations

from appliance.cli.root import main

__all__ = ["main"]
