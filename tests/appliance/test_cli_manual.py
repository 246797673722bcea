"""Help, manual pages and reference have one source, and each reading command speaks to programs as well."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from appliance.cli.manual import man_pages, reference_text
from appliance.cli.reference import page_of, pages
from appliance.cli.root import ENTRIES, appliance

REFERENCE = Path(__file__).parents[2] / "docs/reference/commands.md"

# Commands that change something or write a file, and tell no more than that they did.
CHANGING = {
    *("daemon", "shutdown", "unseal", "seal", "stop", "report", "manual", "completion", "rollback"),
    *("officers add", "officers revoke", "clock extend", "log receipt", "log head"),
    *("audit rotate-key", "audit break-glass", "audit salt"),
    *("custody rotate", "custody reshare", "keys recover-identity"),
}
# Commands whose output is a format of its own, for programs as it is.
FORMATS = {"config show", "policy fmt"}


def leaves(command: click.Command, name: str):
    if isinstance(command, click.Group):
        for child, below in command.commands.items():
            yield from leaves(below, f"{name} {child}")
    else:
        yield name, command


def every_leaf():
    return {name: leaf for entry in ENTRIES.values() for name, leaf in leaves(entry.load(), entry.name)}


def test_every_reading_command_prints_json_where_it_is_asked_to():
    found = every_leaf()
    assert found.keys() >= CHANGING | FORMATS
    silent = {
        name
        for name, leaf in found.items()
        if not any("--json" in option.opts for option in leaf.params) and name not in CHANGING | FORMATS
    }
    assert silent == set()


def test_one_option_has_one_meaning_everywhere():
    """`--json`, `--out` and `--yes` are spelled so and in no other way."""
    for name, leaf in every_leaf().items():
        options = {text for param in leaf.params if isinstance(param, click.Option) for text in param.opts}
        assert not options & {"--output", "--format", "--force", "-o", "-j", "-y"}, name


def test_the_reference_is_what_the_program_says():
    assert REFERENCE.read_text("utf-8") == reference_text(list(pages())), "`make reference` writes it anew"


def test_every_command_has_a_page_and_the_first_names_all_verbs():
    made = man_pages(list(pages()))
    assert {f"appliance-{name.replace(' ', '-')}.1" for name in every_leaf()} < made.keys()
    for verb in ENTRIES:
        assert rf"\fBappliance\-{verb.replace('-', chr(92) + '-')}\fR(1)" in made["appliance.1"]
    assert r"\fB130\fR" in made["appliance.1"]


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here: the pages were not set")
def test_pages_are_set_without_a_complaint(tmp_path):
    done = CliRunner().invoke(appliance, ["manual", "--out", str(tmp_path / "man")])
    assert done.exit_code == 0, done.output
    for page in sorted((tmp_path / "man").iterdir())[::9]:
        told = subprocess.run(
            ["man", "--warnings", "-l", str(page)],
            capture_output=True,
            text=True,
            env={"LC_ALL": "C.UTF-8", "MANWIDTH": "60", "PATH": "/usr/bin:/bin"},
            check=True,
        )
        assert told.stderr == ""
        assert "EXAMPLE" in told.stdout or page.name == "appliance.1"


def test_text_that_roff_would_read_as_commands_stays_text():
    @click.command("x", epilog="\b\nExample:\n  appliance x -- '.'")
    def command():
        r""".so /etc/passwd

        'quoted' and a \fB backslash.
        """

    text = man_pages([("S", [page_of(command, "appliance x")])])["appliance-x.1"]
    assert "\n.so" not in text
    assert "\n\\&.so /etc/passwd\n" in text
    assert "\n\\&'quoted' and a \\efB backslash.\n" in text


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "r.md").write_text("mine")
    assert (
        CliRunner().invoke(appliance, ["manual", "--markdown", "--out", str(tmp_path / "r.md")]).exit_code
        == 21
    )
    done = CliRunner().invoke(appliance, ["manual", "--markdown", "--out", str(tmp_path / "new.md")])
    assert done.exit_code == 0
    assert (tmp_path / "new.md").read_bytes() == REFERENCE.read_bytes()


@pytest.mark.parametrize("columns", ["60", "110"])
def test_help_fits_the_terminal(columns):
    for words in ([], ["init"], ["bundle", "create"], ["train"]):
        done = CliRunner().invoke(
            appliance, [*words, "--help"], env={"COLUMNS": columns}, terminal_width=int(columns)
        )
        prose = [line for line in done.output.splitlines() if not line.strip().startswith("appliance ")]
        assert max(len(line) for line in prose) <= int(columns), words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_own_script(shell):
    done = CliRunner().invoke(appliance, ["completion", shell])
    assert done.exit_code == 0
    assert "_APPLIANCE_COMPLETE" in done.output
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.output, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("appliance st", ["status", "stop"]),
        ("appliance objects ", ["lineage", "list", "show", "verify"]),
        ("appliance --ho", ["--home"]),
    ],
)
def test_completion_offers_verbs_and_options_and_imports_no_verb_for_the_first(words, offered):
    script = (
        "import sys\nfrom appliance.cli import main\nsys.argv = ['appliance']\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted(n for n in sys.modules if n.startswith('appliance.cli.')), file=sys.stderr)"
    )
    variables = {
        "_APPLIANCE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, env=variables, check=False
    )
    assert sorted(line.partition(",")[2] for line in done.stdout.splitlines()) == offered
    if words.count(" ") == 1:
        assert "appliance.cli.train" not in done.stderr
