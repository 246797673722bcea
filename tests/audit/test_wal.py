from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest

from audit.checkpoint import TreeHead, sign_tree_head
from audit.errors import AuditError, BadSignature, Invalid, LogUnavailable, Malformed
from audit.folder import WAL, Folder
from audit.merkle import EMPTY_ROOT, leaf_hash, root
from audit.wal import WriteAhead, encode_group, encode_head, parse_write_ahead

ENTRIES = [b'{"n":%d}' % i for i in range(6)]


@pytest.fixture(scope="module")
def note(signer):
    def make(size, by=signer):
        return sign_tree_head(
            TreeHead(by.name, size, root([leaf_hash(entry) for entry in ENTRIES[:size]])), by
        )

    return make


@pytest.fixture(scope="module")
def frames(note):
    """Head, then groups of 1, 2 and 3 entries with their heads."""
    cuts = [0, 1, 3, 6]
    made = [encode_head(note(0))]
    for begin, end in pairwise(cuts):
        made += [encode_group(begin, ENTRIES[begin:end]), encode_head(note(end))]
    return made


def test_what_was_committed_is_read_back(frames, signer):
    replay = parse_write_ahead(b"".join(frames), signer.vkey)
    assert replay.base == TreeHead(signer.name, 0, EMPTY_ROOT)
    assert replay.entries == ENTRIES
    assert [head.size for head in replay.heads] == [1, 3, 6]
    assert replay.torn_bytes == 0


def test_any_cut_loses_at_most_the_last_group_and_says_what_it_dropped(frames, signer):
    data = b"".join(frames)
    whole = [len(b"".join(frames[:count])) for count in range(len(frames) + 1)]
    with pytest.raises(Malformed, match="begin with a whole tree head"):
        parse_write_ahead(b"", signer.vkey)
    for length in range(1, len(data)):
        if length < whole[1]:
            with pytest.raises(Malformed, match="begin with a whole tree head"):
                parse_write_ahead(data[:length], signer.vkey)
            continue
        complete = max(count for count, end in enumerate(whole) if end <= length)
        replay = parse_write_ahead(data[:length], signer.vkey)
        assert len(replay.entries) == [0, 0, 1, 1, 3, 3, 6, 6][complete]
        assert replay.entries == ENTRIES[: len(replay.entries)]
        assert replay.torn_bytes == length - whole[complete]


def test_a_flipped_byte_never_loses_or_changes_a_committed_entry(frames, signer):
    data = b"".join(frames)
    last_head = len(data) - len(frames[-1])
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        if position >= last_head:  # the head behind the last group is derivable, and is derived
            assert parse_write_ahead(bytes(flipped), signer.vkey).entries == ENTRIES
        else:
            with pytest.raises(AuditError):
                parse_write_ahead(bytes(flipped), signer.vkey)


def test_a_wrong_byte_among_committed_entries_is_damage_not_a_torn_tail(frames, signer):
    data = bytearray(b"".join(frames))
    data[len(frames[0]) + 30] ^= 1
    with pytest.raises(Invalid, match=r"found damage, though a tree head for 1 entries was signed after it"):
        parse_write_ahead(bytes(data), signer.vkey)


def test_a_tail_without_a_signed_head_of_this_log_behind_it_was_never_answered(
    frames, signer, stranger, note
):
    torn = frames[-2][:-9]
    for tail in (torn, torn + frames[-1][:50], torn + encode_head(note(6, stranger)), bytes(4096)):
        replay = parse_write_ahead(b"".join(frames[:-2]) + tail, signer.vkey)
        assert replay.entries == ENTRIES[:3]
        assert replay.torn_bytes == len(tail)


def test_a_write_ahead_file_of_another_key_is_refused(frames, stranger):
    with pytest.raises(BadSignature):
        parse_write_ahead(b"".join(frames), stranger.vkey)


def test_frames_out_of_order_are_refused(frames, signer, note):
    head, first, first_head, second, *_ = frames
    for order, message in (
        ([head, second], "expected entry 0, found entry 1"),
        ([head, first, second], "expected entry 1, found entry 1"),
        ([head, head], "expected a group from entry 0, found head 0"),
        ([head, first, encode_head(note(3))], "expected a group from entry 1, found head 3"),
        ([head, first, first_head, first_head], "found head 1"),
    ):
        with pytest.raises(Invalid, match=message):
            parse_write_ahead(b"".join(order), signer.vkey)
    with pytest.raises(Malformed, match="begin with a whole tree head"):
        parse_write_ahead(first, signer.vkey)


def test_a_group_that_is_empty_or_cut_inside_its_frame_is_refused(frames, signer):
    with pytest.raises(Malformed, match="cut off, or it has none"):
        parse_write_ahead(frames[0] + encode_group(0, []), signer.vkey)
    cut = encode_group(0, [b"x"])
    whole = encode_group(0, [b"xy"])
    lying = cut.replace(b"\x00\x01x", b"\x00\x02x")
    assert lying != cut
    assert len(whole) == len(cut) + 1
    body = lying[:-32]  # its digest is remade, so that only the inner length is wrong
    with pytest.raises(Malformed, match="cut off, or it has none"):
        parse_write_ahead(frames[0] + body + sha256(body).digest(), signer.vkey)


@pytest.fixture
def opened(tmp_path, signer, note):
    home = tmp_path / "log"
    home.mkdir()
    with Folder(home) as folder:
        wal = WriteAhead.begin(folder, TreeHead(signer.name, 0, EMPTY_ROOT), note(0), [], note(0))
        yield home, wal
        wal.close()
        wal.close()


def test_appending_leaves_what_reading_finds(opened, signer, note):
    home, wal = opened
    wal.append_group(0, ENTRIES[:2])
    wal.append_head(sign_tree_head(TreeHead(signer.name, 2, bytes(32)), signer))
    wal.check()
    assert parse_write_ahead((home / WAL).read_bytes(), signer.vkey).entries == ENTRIES[:2]


def test_a_file_that_is_no_longer_the_one_at_its_path_is_noticed(opened):
    home, wal = opened
    path = home / WAL
    wal.check()

    path.rename(home / "elsewhere")
    with pytest.raises(LogUnavailable, match="expected the open log, found No such file or directory"):
        wal.check()
    path.write_bytes((home / "elsewhere").read_bytes())
    with pytest.raises(LogUnavailable, match="found another file in its place"):
        wal.check()
    (home / "elsewhere").replace(path)
    wal.check()

    (home / "link").hardlink_to(path)
    with pytest.raises(LogUnavailable, match="expected one link to the log, found 2"):
        wal.check()
    (home / "link").unlink()

    with path.open("ab") as other:
        other.write(b"x")
    with pytest.raises(LogUnavailable, match="somebody else wrote to it"):
        wal.check()


@pytest.mark.parametrize("which", ["file", "folder"])
def test_cleared_write_bits_are_noticed_even_by_root(opened, which):
    home, wal = opened
    path = home / WAL if which == "file" else home
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    with pytest.raises(LogUnavailable, match="expected it writable, found mode 0"):
        wal.check()
    path.chmod(mode)
    wal.check()
