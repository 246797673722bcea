"""What a sender names becomes members in the places that an importer knows."""

import pytest

from appliance.bundle.gather import gather
from appliance.errors import ContentRefused, UnknownObject


@pytest.fixture
def tree(tmp_path):
    for name in ("pack/corpus/ref/a.txt", "pack/corpus/ref/b.txt", "pack/config/tiny.toml", "loose/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    return tmp_path


def names(paths):
    kind, members = gather(paths)
    return kind, [member.name for member in members]


def test_arranged_folder_is_taken_as_it_is(tree):
    assert names([tree / "pack"]) == ("corpus", ["config/tiny.toml", "corpus/ref/a.txt", "corpus/ref/b.txt"])


def test_loose_files_find_their_places(tree):
    assert names([tree / "loose"]) == ("corpus", ["corpus/loose/x.txt"])
    assert names([tree / "loose" / "x.txt", tree / "pack" / "config" / "tiny.toml"]) == (
        "corpus",
        ["corpus/x/x.txt", "config/tiny.toml"],
    )
    assert names([tree / "pack" / "config" / "tiny.toml"]) == ("config", ["config/tiny.toml"])


def test_members_can_be_read_twice(tree):
    _, [member] = gather([tree / "loose"])
    for _ in range(2):
        with member.open() as source:
            assert source.read(100) == b"x = 1\n"


def test_links_are_not_packed(tree):
    (tree / "loose" / "y.txt").symlink_to("/etc/passwd")
    with pytest.raises(ContentRefused, match=r"y\.txt: expected a regular file, found a link"):
        gather([tree / "loose"])


def test_absent_and_unknown_files_are_refused(tree):
    with pytest.raises(UnknownObject, match=r"none\.txt"):
        gather([tree / "none.txt"])
    (tree / "loose" / "model.pt").touch()
    with pytest.raises(ContentRefused, match="pickles"):
        gather([tree / "loose"])
