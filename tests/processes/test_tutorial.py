"""The tutorial and the how-to pages, typed as they stand into one shell of an empty folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.console import Command, Shell, commands_of, fits

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("tutorial.md", "howto.md")

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not (shutil.which("age") and shutil.which("ssh-keygen")),
        reason="no age or ssh-keygen here: the tutorial was not typed",
    ),
]


@pytest.fixture
def shell(short_home):
    programs = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    variables = {"PATH": programs, "HOME": str(short_home), "LANG": "C.UTF-8", "TERM": "dumb"}
    typed = Shell(short_home, variables)
    yield typed
    typed.run(f"appliance --home {short_home / 'home'} shutdown")
    typed.close()


def test_every_command_of_the_tutorial_and_the_how_to_pages_does_what_they_show(shell):
    for page in PAGES:
        commands = commands_of((DOCS / page).read_text("utf-8"))
        assert len(commands) > 10
        for command in commands:
            printed, code = shell.run(command.text)
            assert fits(command.output, printed), f"{page}: $ {command.text}\n{printed}"
            refused = any(line.startswith("error:") for line in command.output)
            assert (code != 0) == refused, f"{page}: $ {command.text} ended with {code}\n{printed}"


def test_the_reader_of_consoles_sees_commands_with_their_output():
    text = "a\n```console\n$ one \\\n    more\nout\n\n$ cat <<'END'\nx\nEND\n```\n```sh\nnot this\n```\n"
    assert commands_of(text) == [
        Command("one \\\n    more", ("out", "")),
        Command("cat <<'END'\nx\nEND", ()),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "fitting"),
    [
        (("a … c",), "a bb c\n", True),
        (("a … c",), "a bb d\n", False),
        (("a", "…", "z"), "a\nb\nc\nz", True),
        (("a", "…", "z"), "a\nz", True),
        (("a",), "a\nb", False),
        ((), "", True),
        (("a", "b"), "a", False),
    ],
)
def test_what_is_shown_must_be_what_is_printed(shown, printed, fitting):
    assert fits(shown, printed) == fitting
