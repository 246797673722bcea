"""`appliance policy` on files alone: what it prints, and what it refuses."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from appliance.cli.root import appliance
from policy.engine import Engine, schema, shipped

MORE = '@id("no-samples")\nforbid (principal, action == Action::"sample", resource);\n'
TABLE = """
[defaults]
principal = "Person:ada"
roles = ["operator"]
resource = "Object:weights/tales"
[[case]]
name = "ada samples"
action = "sample"
expect = "allow"
[[case]]
name = "ada reads nothing"
action = "read"
expect = "deny"
"""


@pytest.fixture
def run():
    def run(*words: object, code: int = 0) -> str:
        done = CliRunner().invoke(appliance, ["policy", *map(str, words)], prog_name="appliance")
        assert done.exit_code == code, done.output
        return done.output

    return run


@pytest.fixture
def lab(tmp_path):
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "default.cedar").write_text(shipped()[0]["default.cedar"])
    (folder / "lab.cedar").write_text(MORE)
    return folder


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "cases.toml"
    path.write_text(TABLE)
    return path


def test_check_prints_the_digest_of_a_set(run, lab):
    expected = Engine({**shipped()[0], "lab.cedar": MORE}, schema()).digest
    assert expected in run("check", lab)
    assert json.loads(run("check", "--json", lab))["policy_set"] == expected
    assert (
        json.loads(run("check", lab / "default.cedar", lab / "lab.cedar", "--json"))["policy_set"] == expected
    )
    assert Engine(*shipped()).digest in run("check")
    assert Engine(*shipped("strict")).digest in run("check", "strict")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"permit (", "lab.cedar:1: unexpected end"),
        (b'\n\n@id("x") permit (principal is Persn, action, resource);', "lab.cedar:3: rule 'x'"),
        (MORE.replace("no-samples", "need-to-know").encode(), "lab.cedar:1: two rules have the name"),
        (b'@id("open") permit (principal, action, resource);', "every set of rules must answer so"),
        (b"\xff", "expected UTF-8 text, found byte 0xff"),
        (b" " * 10_000_000, "lab.cedar: expected at most 1048576 bytes"),
    ],
    ids=["syntax", "a type", "an id twice", "open to all", "no text", "ten megabytes"],
)
def test_check_refuses_what_would_not_load_and_says_where(run, lab, text, message):
    (lab / "lab.cedar").write_bytes(text)
    assert message in run("check", lab, code=12)


def test_another_schema_an_empty_folder_and_a_missing_file_are_refused(run, lab, tmp_path):
    (lab / "schema.cedarschema").write_text(schema() + "\n")
    assert "expected the schema that ships with this release" in run("check", lab, code=12)
    (lab / "schema.cedarschema").write_text(schema())
    run("check", lab)
    (tmp_path / "empty").mkdir()
    assert "expected .cedar files" in run("check", tmp_path / "empty", code=4)
    assert "sets that ship: default, strict" in run("check", "lost.cedar", code=4)
    assert "found lab.cedar twice" in run("check", lab, lab / "lab.cedar", code=2)


def test_fmt_prints_and_writes_only_when_asked(run, lab):
    path = lab / "lab.cedar"
    path.write_text(MORE.replace("\n", "   ", 1))
    assert run("fmt", path).startswith('@id("no-samples")\nforbid (')
    assert path.read_text().startswith('@id("no-samples")   forbid')
    assert "formatted" in run("fmt", "--write", path)
    assert run("fmt", "--write", path) == ""


def test_a_table_tells_what_a_set_would_change(run, lab, table):
    assert "2 of 2 cases answered as expected" in run("test", table)
    told = run("test", table, lab, code=8)
    assert "ada samples: expected allow, found deny (forbidden-by:no-samples)" in told
    assert "1 of 2 cases answered as expected" in told
    assert json.loads(run("test", "--json", table))["wrong"] == []


def test_explain_says_who_decides_and_what_would_help(run, lab, table):
    told = run("explain", table, lab)
    assert "forbidden-by:no-samples" in told
    assert "would permit   operator-samples-weights" in told
    found = json.loads(run("explain", "--json", table))
    assert [each["allow"] for each in found] == [True, False]


def test_diff_shows_the_lines_that_differ(run, lab):
    told = run("diff", "default", lab)
    assert "+forbid (principal, action" in told
    assert run("diff", "default", "default") == ""


def test_simulate_judges_a_log_again(run, lab, sim):
    weights = sim.add("weights", "tiny", b"the weights")
    sim.ask("sample", weights)
    sim.stop()
    home = ("--home", sim.home.root)
    assert "0 of" in run("simulate", *home)
    told = run("simulate", lab, *home)
    assert "allow -> deny" in told
    assert "forbidden-by:no-samples" in told
    found = json.loads(run("simulate", lab, "--json", *home))
    assert [each["action"] for each in found["flips"]] == ["sample"]
    assert found["judged"] > 1
