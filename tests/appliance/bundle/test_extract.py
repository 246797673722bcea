"""The plaintext of a bundle is taken apart strictly, in one pass, whatever its cuts."""

import hashlib
from dataclasses import replace

import pytest

from appliance.bundle import ustar
from appliance.bundle.extract import Extractor
from appliance.bundle.inner import Inner, InnerMember, encode_inner, inner_of
from appliance.bundle.manifest import Label
from appliance.bundle.names import JSON_TEXT, TEXT, TOML
from appliance.bundle.padding import padme
from appliance.bundle.stream import PlainStream, bytes_member, digest_member, plain_bytes
from appliance.errors import ApplianceError, ContentRefused, Incomplete, IntegrityError

LABEL = Label(
    bundle_id="01" * 16,
    kind="corpus",
    direction="in",
    channel="default",
    seq=3,
    prev="",
    target="sha256:" + "ab" * 32,
    issued_at="2026-01-01T00:00:00Z",
    expires="2026-02-01T00:00:00Z",
    recipients=("X25519",),
    signers=("alice+01234567",),
    quorum=1,
    tree_head="",
    policy_decision="",
)
MEMBERS = [
    bytes_member("corpus/a/one.txt", TEXT, b"first\n"),
    bytes_member("corpus/a/two.txt", TEXT, b""),
    bytes_member("corpus/a/zen.txt", TEXT, b"z" * 512),
    bytes_member("config/c.toml", TOML, b"a = 1\n"),
]
INNER = inner_of(LABEL, tuple(digest_member(member) for member in MEMBERS))
PLAIN = b"".join(PlainStream(INNER, MEMBERS))


class Recorder:
    """Keeps what it is told."""

    def __init__(self):
        self.members: dict[str, bytes] = {}
        self.order: list[str] = []
        self.ended: list[str] = []
        self.announced: Inner | None = None

    def contents(self, inner):
        self.announced = inner

    def begin(self, member):
        assert self.announced is not None
        self.order.append(member.name)
        self.members[member.name] = b""

    def data(self, data):
        self.members[self.order[-1]] += bytes(data)

    def end(self, member):
        self.ended.append(member.name)


def extract(plain: bytes, step: int = 0, label: Label = LABEL) -> Recorder:
    sink = Recorder()
    extractor = Extractor(label, sink)
    for at in range(0, len(plain), step or len(plain) or 1):
        extractor.feed(plain[at : at + (step or len(plain))])
    assert extractor.finish() == sink.announced
    return sink


@pytest.mark.parametrize("step", [0, 1, 511, 512, 513])
def test_members_come_back_in_order_however_the_stream_is_cut(step):
    sink = extract(PLAIN, step)
    assert sink.order == sink.ended == sorted(member.name for member in MEMBERS)
    for member in MEMBERS:
        with member.open() as source:
            assert sink.members[member.name] == source.read(1 << 20)


def test_stream_has_the_length_that_was_planned():
    assert len(PLAIN) == plain_bytes(INNER) == padme(len(PLAIN)) == PlainStream(INNER, MEMBERS).size


def test_every_flipped_byte_is_refused():
    for at in range(len(PLAIN)):
        broken = bytearray(PLAIN)
        broken[at] ^= 1
        with pytest.raises((ContentRefused, IntegrityError)):
            extract(bytes(broken))


def test_every_truncation_is_incomplete():
    for size in range(0, len(PLAIN), 7):
        with pytest.raises(Incomplete, match="import all parts"):
            extract(PLAIN[:size])


def test_anything_after_the_padding_is_refused():
    with pytest.raises(ContentRefused, match="expected the end after"):
        extract(PLAIN + b"\0")


@pytest.mark.parametrize(
    "change",
    [
        {"bundle_id": "02" * 16},
        {"kind": "config"},
        {"seq": 4},
        {"target": "sha256:" + "cd" * 32},
        {"signers": ("mallory+01234567",)},
    ],
)
def test_manifest_put_around_other_parts_is_refused(change):
    with pytest.raises(ContentRefused, match=rf"{next(iter(change))} .*put around another bundle's parts"):
        extract(PLAIN, label=replace(LABEL, **change))


def raw_stream(inner: bytes, *members: tuple[str, bytes]) -> bytes:
    """Build a stream without the writer's own checks."""
    archive = b""
    for name, data in (("inner.json", inner), *members):
        archive += ustar.header(name, len(data)) + data + bytes(ustar.tail_bytes(len(data)))
    archive += bytes(ustar.END_BYTES)
    return archive.ljust(padme(len(archive)), b"\0")


def promise(name: str, data: bytes, media_type: str = TEXT) -> InnerMember:
    return digest_member(bytes_member(name, media_type, data))


def test_member_that_inner_json_does_not_name_is_refused():
    inner = encode_inner(Inner(*_bound(), (promise("corpus/a/one.txt", b"x"),)))
    with pytest.raises(
        ContentRefused, match=r"expected corpus/a/one\.txt of 1 bytes .* found corpus/a/two\.txt"
    ):
        extract(raw_stream(inner, ("corpus/a/two.txt", b"x")))


def test_member_too_many_is_refused():
    inner = encode_inner(Inner(*_bound(), (promise("corpus/a/one.txt", b"x"),)))
    with pytest.raises(ContentRefused, match="only zero bytes"):
        extract(raw_stream(inner, ("corpus/a/one.txt", b"x"), ("corpus/a/two.txt", b"x")))


def test_content_that_differs_from_its_hash_is_never_confirmed():
    inner = encode_inner(Inner(*_bound(), (promise("corpus/a/one.txt", b"x"),)))
    sink = Recorder()
    with pytest.raises(IntegrityError, match=r"corpus/a/one\.txt: expected SHA-256"):
        Extractor(LABEL, sink).feed(raw_stream(inner, ("corpus/a/one.txt", b"y")))
    assert sink.ended == []


def test_content_outside_its_parser_is_never_confirmed():
    member = replace(promise("corpus/a/one.txt", b"\n\n\n\n"), sha256="00" * 32)
    sink = Recorder()
    with pytest.raises(ContentRefused, match=r"U\+001B in line 1"):
        Extractor(LABEL, sink).feed(
            raw_stream(encode_inner(Inner(*_bound(), (member,))), ("corpus/a/one.txt", b"\x1b[2J"))
        )
    assert sink.ended == []


@pytest.mark.parametrize(
    ("name", "media_type", "data"),
    [
        ("corpus/a/one.txt", TEXT, b"cut \xc3"),
        ("config/c.toml", TOML, b"a = "),
    ],
)
def test_content_that_is_only_wrong_as_a_whole_is_never_confirmed(name, media_type, data):
    promised = InnerMember(name, media_type, len(data), hashlib.sha256(data).hexdigest())
    sink = Recorder()
    with pytest.raises(ContentRefused, match=f"{name}: expected (UTF-8 text|TOML)"):
        Extractor(LABEL, sink).feed(raw_stream(encode_inner(Inner(*_bound(), (promised,))), (name, data)))
    assert sink.ended == []


def empty(name: str) -> InnerMember:
    return InnerMember(name, TEXT, 0, hashlib.sha256().hexdigest())


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ((), "found no member"),
        ((empty("corpus/a/b.txt"), empty("corpus/a/a.txt")), "sorted and unique"),
        ((empty("corpus/a/a.txt"), empty("corpus/a/a.txt")), "sorted and unique"),
        ((empty("corpus/a/A.txt"), empty("corpus/a/a.txt")), "differs only by case"),
        ((empty("corpus/a.txt"), empty("corpus/a.txt/b.txt")), "a file and a folder of one name"),
        ((empty("../a.txt"),), "rename the file"),
        ((empty("/etc/passwd"),), "rename the file"),
        ((empty("inner.json"),), "free of twins"),
        ((replace(empty("a.zip"), media_type="application/zip"),), "media_type as one of"),
        ((replace(empty("a.json"), media_type=JSON_TEXT),), "one bundle per kind"),
        ((replace(empty("a.txt"), sha256="0" * 63),), "expected sha256 to match"),
        ((replace(empty("a.txt"), size=ustar.MAX_SIZE + 1),), "expected size as a whole number"),
    ],
)
def test_list_of_contents_outside_the_rules_is_refused_before_any_member(members, match):
    sink = Recorder()
    with pytest.raises(ContentRefused, match=match):
        Extractor(LABEL, sink).feed(raw_stream(encode_inner(Inner(*_bound(), members))))
    assert sink.announced is None


def test_stream_that_does_not_begin_with_its_list_is_refused():
    with pytest.raises(ContentRefused, match=r"expected inner\.json of at most .* found a\.txt"):
        extract(ustar.header("a.txt", 3))
    with pytest.raises(ContentRefused, match=r"found inner\.json of 0"):
        extract(ustar.header("inner.json", 0))


def test_member_that_changes_while_it_is_packed_stops_the_stream():
    changed = [
        bytes_member(member.name, member.media_type, b"FIRST\n") if member.size == 6 else member
        for member in MEMBERS
    ]
    with pytest.raises(IntegrityError, match="found it changed"):
        b"".join(PlainStream(INNER, changed))


@pytest.mark.parametrize(("data", "word"), [(b"12345", "fewer"), (b"1234567", "more")])
def test_member_that_is_not_as_long_as_it_said_is_refused(data, word):
    member = replace(bytes_member("corpus/a/one.txt", TEXT, data), size=6)
    with pytest.raises(IntegrityError, match=f"expected 6 bytes, found {word}"):
        digest_member(member)


def test_other_members_than_those_hashed_are_refused():
    with pytest.raises(IntegrityError, match="expected the members that were hashed"):
        PlainStream(INNER, MEMBERS[1:])


def test_refusal_by_the_sink_ends_the_import():
    class Refusing(Recorder):
        def contents(self, inner):  # noqa: ARG002  the sink's signature
            raise ContentRefused("not today")

    sink = Refusing()
    with pytest.raises(ApplianceError, match="not today"):
        Extractor(LABEL, sink).feed(PLAIN)
    assert sink.order == []


def _bound():
    return (LABEL.bundle_id, LABEL.kind, LABEL.seq, LABEL.target, LABEL.signers)
