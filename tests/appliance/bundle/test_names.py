"""Names of members are safe to create on any file system."""

import pytest

from appliance.bundle.names import (
    JSON_TEXT,
    SAFETENSORS,
    TEXT,
    TOML,
    check_approval_names,
    check_media_types,
    check_member_name,
    check_member_names,
    media_type_of,
    object_of,
)
from appliance.errors import ContentRefused


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/../b",
            "./a",
            ".git/x",
            "a/.b",
            "a b",
            "a\\b",
            "a:b",
            "a.",
        ),
        *("a..b", "é", "a\n", "-rf", "a/-x", "a\0", "x" * 101, "a/b/c/d/e", "con", "a/NUL.txt", "com1.toml"),
    ],
)
def test_unsafe_name_is_refused(name):
    with pytest.raises(ContentRefused, match="rename the file"):
        check_member_name(name)


@pytest.mark.parametrize(
    "name", ["a", "corpus/py-ref/01.txt", "model/lineage/train.tlog-proof", "_x/A.b-c.d"]
)
def test_plain_name_is_accepted(name):
    check_member_name(name)


@pytest.mark.parametrize(
    "names", [["b", "a"], ["a", "a"], ["A", "a"], ["a", "a/b"], ["A", "a/b"], ["inner.json"], ["INNER.JSON"]]
)
def test_names_that_collide_somewhere_are_refused(names):
    with pytest.raises(ContentRefused):
        check_member_names(names)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.txt", TEXT),
        ("a.toml", TOML),
        ("model.safetensors", SAFETENSORS),
        ("config.json", JSON_TEXT),
        ("lineage/train.entry", JSON_TEXT),
        ("model.sig", JSON_TEXT),
        ("lineage/tree-head.note", TEXT),
    ],
)
def test_media_type_follows_the_suffix(name, media_type):
    assert media_type_of(name) == media_type


@pytest.mark.parametrize("name", ["model.pt", "a.pkl", "a.npz", "a.zip", "a.py", "a", "a.whl"])
def test_kinds_that_can_run_have_no_media_type(name):
    with pytest.raises(ContentRefused, match="pickles, archives and programs never cross"):
        media_type_of(name)


def test_place_decides_the_object():
    assert object_of("corpus/py-ref/01.txt", TEXT) == ("corpus", "py-ref")
    assert object_of("config/tiny.toml", TOML) == ("config", "tiny")
    assert object_of("weights/base.safetensors", SAFETENSORS) == ("weights", "base")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("corpus/a.txt", TEXT),
        ("config/a.toml", TEXT),
        ("model/model.safetensors", SAFETENSORS),
        ("x.toml", TOML),
    ],
)
def test_member_in_no_known_place_becomes_no_object(name, media_type):
    with pytest.raises(ContentRefused, match="nothing was imported"):
        object_of(name, media_type)


def test_kind_bounds_the_content():
    check_media_types("corpus", {TEXT, TOML})
    check_media_types("weights", {SAFETENSORS, JSON_TEXT, TEXT})
    for kind, types in (("corpus", {SAFETENSORS}), ("config", {TEXT}), ("update", {TEXT}), ("corpus", set())):
        with pytest.raises(ContentRefused, match=f"bundle of kind {kind}"):
            check_media_types(kind, types)


def test_approvals_travel_as_one_request_and_its_signatures():
    request, signed = "approval/request.json", [f"approval/o{n}.sshsig" for n in range(17)]
    check_approval_names([signed[0], request])
    check_approval_names([*signed[:16], request])
    check_media_types("approval", {JSON_TEXT, TEXT})
    for names in (
        *([request], signed[:1], [*signed, request]),
        *([*signed[:1], request, "corpus/x/a.txt"], [*signed[:1], request, "approval/other.json"]),
    ):
        with pytest.raises(ContentRefused, match=r"expected approval/request\.json and 1 to 16"):
            check_approval_names(names)
