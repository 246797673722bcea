"""A desk at which one model is let out: each step by the command that a person types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.processes.conftest import Template, checked
from tests.processes.living import PYTHON, Living


class Desk:
    """Request, signatures and export of one model, each by the command that a person types."""

    def __init__(self, appliance: Living, template: Template, folder: Path, model: str = "tiny") -> None:
        self.appliance = appliance
        self.model = model
        self.template = template
        self.folder = folder
        self.request = folder / "export.request"
        self.recipient = json.loads(
            checked(*PYTHON, "appliance", "keygen", "recipient", "lab", "--out", folder, "--json")
        )["recipient"]
        self.make_request()

    def make_request(self) -> None:
        self.request.unlink(missing_ok=True)
        to = ("--to", self.recipient, "--reason", "r", "--out", self.request)
        self.done("request", "export", self.model, *to)

    def done(self, *arguments: object) -> str:
        finished = self.appliance.cli(*arguments)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def sign(
        self, officer: str, *, namespace: str = "approval@appliance", document: Path | None = None
    ) -> Path:
        document = document or self.request
        made = document.with_name(f"{document.name}.sig")
        made.unlink(missing_ok=True)
        checked(
            "ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", self.template.folder / officer, document
        )
        return made.rename(self.folder / f"{officer}.sig")

    def approve(self, officer: str, **options: Any) -> Any:
        return self.appliance.cli("approve", self.request, self.sign(officer, **options))

    def export(self) -> Any:
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        options = ("--sign", "--to", self.recipient, "--request", self.request, "--out", out)
        return self.appliance.cli("export", self.model, *options)

    def demand_not_exported(self, exit_code: int, said: str) -> None:
        refused = self.export()
        assert refused.returncode == exit_code, refused.stderr
        assert said in refused.stderr
        assert list((self.folder / "out").iterdir()) == []
