"""`python -m appliance`: the same program as the console script `appliance`."""

from __future__ import annotations

from appliance.cli import main

main()
