"""The root of the command line: it loads little, documents its exit codes, and fails in one way."""

from __future__ import annotations

import errno
import json
import shlex
import subprocess
import sys
import types

import click
import pytest
from click.testing import CliRunner

from appliance import __version__
from appliance.cli.failures import NEXT_STEP, exit_codes
from appliance.cli.output import printable, size_text
from appliance.cli.root import ENTRIES, SECTIONS, Entry, appliance
from appliance.errors import ApplianceError, by_code
from audit.errors import AuditError
from policy.errors import PolicyError

HEAVY = (
    "numpy",
    "cryptography",
    "nacl",
    "cedarpy",
    "sqlite3",
    "appliance.client",
    "policy",
    "audit",
    "asyncio",
    "rich",
    "jinja2",
    "matplotlib",
)


def walk(command: click.Command, name: str):
    yield name, command
    if isinstance(command, click.Group) and command is not appliance:
        for child, grandchild in command.commands.items():
            yield from walk(grandchild, f"{name} {child}")


def every_command():
    for entry in ENTRIES.values():
        yield from walk(entry.load(), entry.name)


@pytest.fixture
def probe(monkeypatch):
    """A verb `probe` that does what the test says."""
    module = types.ModuleType("appliance.cli.probe")

    def install(action):
        module.probe_command = click.command("probe")(action)

    monkeypatch.setitem(sys.modules, "appliance.cli.probe", module)
    monkeypatch.setitem(ENTRIES, "probe", Entry("probe", "probe", "Does what the test says."))
    return install


def raising(error: BaseException):
    def action():
        raise error

    return action


def test_help_loads_no_module_of_any_verb_nor_any_heavy_package():
    script = (
        "import sys\nfrom appliance.cli.root import appliance\n"
        "try:\n    appliance(['--help'])\nexcept SystemExit:\n    pass\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "verbs = [name for name in sys.modules if name.startswith('appliance.cli.')]\n"
        "print('LOADED', heavy, sorted(verbs))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    verbs = [f"appliance.cli.{name}" for name in ("failures", "output", "root", "session", "terminal")]
    assert done.stdout.splitlines()[-1] == f"LOADED [] {verbs}"


def test_help_lists_the_exit_code_of_every_error_class():
    text = CliRunner().invoke(appliance, ["--help"], terminal_width=110).output
    for cls in by_code().values():
        if cls.exit_code > 1:
            assert f"\n  {cls.exit_code:<3}  {cls.__doc__.splitlines()[0].rstrip('.')}" in text


def test_exit_codes_are_distinct():
    codes = [code for code, _ in exit_codes()]
    assert len(codes) == len(set(codes)) == len(by_code()) + 3  # 0, 130 and 141 have no class


def test_every_error_class_has_a_next_step():
    assert set(NEXT_STEP) | {1, 2} == {cls.exit_code for cls in by_code().values()}


def test_every_verb_of_the_table_loads_and_is_listed_once():
    names = [entry.name for _, entries in SECTIONS for entry in entries]
    assert len(names) == len(set(names))
    for entry in ENTRIES.values():
        assert entry.load().name == entry.name


def test_every_command_has_help_and_one_example_that_its_own_options_accept():
    for name, command in every_command():
        assert command.help, name
        lines = (command.epilog or "").splitlines()
        assert lines[:2] == ["\b", "Example:"], name
        words = shlex.split(lines[2].split(" > ")[0])
        assert words[:2] == ["appliance", name.split()[0]], name
        words = words[1 + len(name.split()) :]
        context = click.Context(command, info_name=name)
        if not isinstance(command, click.Group):
            command.make_parser(context).parse_args(words)


def test_every_command_answers_help_quietly():
    for name, _ in every_command():
        done = CliRunner().invoke(appliance, [*name.split(), "--help"])
        assert done.exit_code == 0, name
        assert "Example:" in done.output


@pytest.mark.parametrize("cls", by_code().values(), ids=lambda cls: cls.code)
def test_an_error_raised_on_purpose_ends_with_the_exit_code_of_its_class(probe, cls):
    probe(raising(cls("expected a, found b")))
    done = CliRunner().invoke(appliance, ["probe"])
    assert done.exit_code == cls.exit_code
    assert done.stderr.startswith("error: expected a, found b\n")
    assert done.stdout == ""
    if cls.exit_code > 2:
        assert done.stderr.splitlines()[1] == f"next: {NEXT_STEP[cls.exit_code]}"


@pytest.mark.parametrize("root", [AuditError, PolicyError])
def test_errors_of_the_lower_packages_keep_their_exit_codes(probe, root):
    for cls in [root, *root.__subclasses__()]:
        probe(raising(cls.__new__(cls, "x")))
        done = CliRunner().invoke(appliance, ["probe"])
        assert done.exit_code == cls.exit_code
        assert "internal" not in done.stderr


def test_a_message_that_names_its_next_step_gets_no_second_one(probe):
    probe(raising(by_code()["sealed"]("sealed: open it with `appliance unseal`")))
    assert (
        CliRunner().invoke(appliance, ["probe"]).stderr == "error: sealed: open it with `appliance unseal`\n"
    )


def test_an_unexpected_exception_is_one_line_and_exit_1(probe):
    probe(raising(KeyError("missing")))
    done = CliRunner().invoke(appliance, ["probe"])
    assert done.exit_code == 1
    assert done.stderr == (
        "error: internal: KeyError: 'missing'\nnext: repeat with --debug for the traceback\n"
    )


def test_debug_shows_the_traceback(probe):
    probe(raising(KeyError("missing")))
    done = CliRunner().invoke(appliance, ["--debug", "probe"])
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "in action" in done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOENT, 4), (errno.EIO, 4), (errno.ENOSPC, 5), (errno.EEXIST, 21), (errno.EACCES, 1)],
)
def test_a_fault_of_the_operating_system_names_the_file_and_has_its_code(probe, number, code):
    probe(raising(OSError(number, "said the kernel", "/media/stick/x")))
    done = CliRunner().invoke(appliance, ["probe"])
    assert done.exit_code == code
    assert done.stderr.startswith("error: /media/stick/x: said the kernel\n")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_ends_with_130(probe, stop):
    probe(raising(stop))
    done = CliRunner().invoke(appliance, ["probe"])
    assert done.exit_code == 130
    assert done.stderr == "interrupted\n"


def test_a_reader_that_went_away_ends_the_command_quietly():
    script = "import sys; from appliance.cli import main; sys.argv = ['appliance', 'version']; main()"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", f"input(); {script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process:
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_unknown_verb_is_a_usage_error():
    done = CliRunner().invoke(appliance, ["trane"])
    assert done.exit_code == 2
    assert "No such command 'trane'" in done.stderr


def test_escape_sequences_stay_visible_text():
    assert printable("a\x1b[2Jb\u202ec\rd\n\te\u2028") == "a\\x1b[2Jb\\u202ec\\rd\n\te\\u2028"
    assert printable("Grüße, 世界 \N{SLIGHTLY SMILING FACE}") == "Grüße, 世界 \N{SLIGHTLY SMILING FACE}"


def test_an_escape_sequence_in_an_error_does_not_reach_the_terminal(probe):
    probe(raising(ApplianceError("\x1b]0;owned\x07")))
    assert "\x1b" not in CliRunner().invoke(appliance, ["probe"]).stderr


def test_sizes_read_as_people_write_them():
    assert [size_text(n) for n in (0, 1023, 1024, 1536, 2**20, 5 * 2**30, 2**43)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "1.0 MiB",
        "5.0 GiB",
        "8.0 TiB",
    ]


def test_home_may_stand_before_or_after_the_verb_or_in_the_environment(tmp_path):
    for before, after, variables in [
        (["--home", str(tmp_path / "a")], [], {}),
        ([], ["--home", str(tmp_path / "a")], {}),
        (["--home", str(tmp_path / "b")], ["--home", str(tmp_path / "a")], {}),
        ([], [], {"APPLIANCE_HOME": str(tmp_path / "a")}),
    ]:
        done = CliRunner().invoke(appliance, [*before, "status", *after], env=variables)
        assert done.exit_code == 18
        assert str(tmp_path / "a") in done.stderr


def test_version_is_said_for_people_and_programs():
    assert (
        CliRunner()
        .invoke(appliance, ["version"])
        .output.startswith(f"training-appliance {__version__}, Python ")
    )
    assert json.loads(CliRunner().invoke(appliance, ["version", "--json"]).output)["version"] == __version__
