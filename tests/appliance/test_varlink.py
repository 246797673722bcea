"""The interface definition, the calls it allows, and the bytes around them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import varlink
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ProtocolError
from appliance.interface import Interface, InvalidValue, Struct, check_struct, parse_interface
from appliance.varlink import (
    MAX_MESSAGE,
    SERVICE_DEFINITION,
    Framer,
    ServiceError,
    answer_service,
    check_call,
    encode_error,
    encode_reply,
    load_interface,
    parse_call,
)

DEFINITION = """
# About it.
interface org.example.tests

type Color (red, green)
type Leaf (name: string, next: ?Leaf)
type All (
  flag: bool, count: int, share: float, text: string, free: object,
  maybe: ?int, list: []Leaf, table: [string]int, color: Color, inline: (x: int), either: (a, b),
  pile: []?[]int
)

method Get(all: All) -> (all: All)

# more; streams
method Follow() -> ()
method Take(first_fd: ?int, second_fd: ?int) -> ()
error Nope (why: string)
"""
SOUND = {
    "flag": True,
    "count": 1,
    "share": 0.5,
    "text": "t",
    "free": {"x": [1]},
    "maybe": None,
    "list": [{"name": "a", "next": {"name": "b"}}],
    "table": {"k": 1},
    "color": "red",
    "inline": {"x": 1},
    "either": "b",
    "pile": [None, [1]],
}


@pytest.fixture(scope="module")
def interface() -> Interface:
    return parse_interface(DEFINITION)


def call(method: str, **fields: Any) -> bytes:
    return json.dumps({"method": method, **fields}).encode()


def test_a_value_as_declared_is_let_through(interface):
    check_struct(interface, interface.methods["Get"].parameters, {"all": SOUND})
    check_struct(interface, interface.methods["Get"].parameters, {"all": SOUND | {"share": 1, "maybe": 5}})


@pytest.mark.parametrize(
    ("field", "value", "parameter"),
    [
        ("flag", 1, "all.flag"),
        ("flag", None, "all.flag"),
        ("count", True, "all.count"),
        ("count", 1.0, "all.count"),
        ("share", True, "all.share"),
        ("share", "1", "all.share"),
        ("text", 1, "all.text"),
        ("free", [], "all.free"),
        ("maybe", "x", "all.maybe"),
        ("list", {}, "all.list"),
        ("list", [{"name": "a"}, {"name": 1}], "all.list[1].name"),
        ("list", [{"name": "a", "next": {"name": "b", "x": 1}}], "all.list[0].next.x"),
        ("table", {"k": "v"}, "all.table[]"),
        ("table", [], "all.table"),
        ("color", "blue", "all.color"),
        ("color", ["red"], "all.color"),
        ("inline", {}, "all.inline.x"),
        ("either", "c", "all.either"),
        ("pile", [[None]], "all.pile[0][0]"),
        ("extra", 1, "all.extra"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_path(interface, field, value, parameter):
    with pytest.raises(InvalidValue) as refused:
        check_struct(interface, interface.methods["Get"].parameters, {"all": SOUND | {field: value}})
    assert refused.value.parameter == parameter


@pytest.mark.parametrize("missing", [name for name in SOUND if name != "maybe"])
def test_a_missing_field_is_refused(interface, missing):
    partial = {name: value for name, value in SOUND.items() if name != missing}
    with pytest.raises(InvalidValue, match=f"in all.{missing}, found NoneType"):
        check_struct(interface, interface.methods["Get"].parameters, {"all": partial})


def test_parameters_that_are_no_object_are_refused(interface):
    with pytest.raises(InvalidValue, match="an object in parameters, found list"):
        check_struct(interface, interface.methods["Get"].parameters, [])


def test_members_are_what_the_definition_says(interface):
    assert interface.name == "org.example.tests"
    assert [name for name, method in interface.methods.items() if method.streams] == ["Follow"]
    assert set(interface.errors) == {"Nope"}
    assert set(interface.types) == {"Color", "Leaf", "All"}


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        ("", "expected interface in line 1 of the interface definition, found 'the end'"),
        ("interface Bad", "an interface name in line 1"),
        ("interface a.b\nmethod lower() -> ()", "a member name in line 2"),
        ("interface a.b\nmethod M() -> ()\nmethod M() -> ()", "each member once in line 3"),
        ("interface a.b\nmethod M() ()", "expected -> in line 2"),
        ("interface a.b\nmethod M(a: Missing) -> ()", "each named type to be defined"),
        ("interface a.b\nmethod M(a: int, a: int) -> ()", "each field once"),
        ("interface a.b\nmethod M(a, b) -> ()", "fields with types"),
        ("interface a.b\ntype T (a: int, b)", "a type for each field, or for none"),
        ("interface a.b\ntype T (a: int b: int)", "expected , in line 2"),
        ("interface a.b\ntype T (a: inte)", "a type in line 2"),
        ("interface a.b\ntype T (a: int", "found 'the end'"),
        ("interface a.b\nthing T ()", "type, method or error"),
        ("interface a.b\ntype T (a_: int)", "in line 2"),
        ("interface a.b\n$", "a token in line 2"),
        ("# x\n" * 20_000, "at most 65536 characters"),
    ],
)
def test_a_malformed_definition_is_refused_by_its_line(definition, found):
    with pytest.raises(ProtocolError, match=found):
        parse_interface(definition)


@given(st.text(alphabet="interfacmthodyp ()->:,?[]#\n.aAB_1", max_size=80))
def test_any_text_is_a_definition_or_a_protocol_error(text):
    try:
        parsed = parse_interface("interface a.b\n" + text)
    except ProtocolError:
        return
    assert parse_interface(parsed.text) == parsed


def test_the_packaged_interface_is_read_alike_by_the_varlink_package():
    own = load_interface()
    theirs = varlink.Interface(own.text)
    assert theirs.name == own.name
    kinds = {"_Method": own.methods, "_Alias": own.types, "_Error": own.errors}
    for name, member in theirs.members.items():
        assert name in kinds[type(member).__name__], name
    assert len(theirs.members) == sum(len(members) for members in kinds.values())
    for name, method in own.methods.items():
        assert list(theirs.members[name].in_type.fields) == list(method.parameters.fields)


def test_every_descriptor_parameter_is_an_integer_and_every_stream_may_end_empty():
    own = load_interface()
    for method in own.methods.values():
        for name, kind in method.parameters.fields.items():
            if name.endswith("_fd"):
                assert "'int'" in repr(kind), name
        if method.streams:
            check_struct(own, method.reply, {})


def test_a_call_is_parsed(interface):
    parsed = parse_call(call("org.example.tests.Follow", parameters={}, more=True))
    assert (parsed.interface, parsed.method, parsed.more, parsed.oneway) == (
        "org.example.tests",
        "Follow",
        True,
        False,
    )
    assert check_call(interface, parsed, 0).streams


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        call("a.B", parameters=None),
        call("a.B", parameters=[]),
        call("a.B", more=1),
        call("a.B", more=None),
        call("a.B", extra=1),
        call("a.B", upgrade=True),
        call("a.B", more=True, oneway=True),
        b'{"method":null}',
        b'{"method":"a.B","method":"a.C"}',
        b'{"method":"' + b"x" * MAX_MESSAGE + b'"}',
    ],
)
def test_a_malformed_call_is_refused(raw):
    with pytest.raises(ProtocolError, match="expected"):
        parse_call(raw)


@pytest.mark.parametrize(
    ("raw", "fds", "error", "told"),
    [
        (call("Follow", more=True), 0, "InterfaceNotFound", {"interface": ""}),
        (call("org.other.Follow", more=True), 0, "InterfaceNotFound", {"interface": "org.other"}),
        (call("org.example.tests.X"), 0, "MethodNotFound", {"method": "org.example.tests.X"}),
        (call("org.example.tests.Follow"), 0, "ExpectedMore", {}),
        (call("org.example.tests.Get"), 0, "InvalidParameter", {"parameter": "all"}),
        (call("org.example.tests.Take"), 1, "InvalidParameter", None),
        (
            call("org.example.tests.Take", parameters={"first_fd": 0}),
            0,
            "InvalidParameter",
            {"parameter": "first_fd"},
        ),
        (call("org.example.tests.Take", parameters={"first_fd": 0}), 2, "InvalidParameter", None),
        (
            call("org.example.tests.Take", parameters={"first_fd": 0, "second_fd": 0}),
            1,
            "InvalidParameter",
            {"parameter": "second_fd"},
        ),
    ],
)
def test_a_call_outside_the_interface_is_answered_with_the_standard_error(interface, raw, fds, error, told):
    with pytest.raises(ServiceError) as refused:
        check_call(interface, parse_call(raw), fds)
    assert refused.value.name == f"org.varlink.service.{error}"
    assert told is None or refused.value.parameters == told


def test_descriptors_named_once_each_are_let_through(interface):
    check_call(interface, parse_call(call("org.example.tests.Take")), 0)
    check_call(
        interface, parse_call(call("org.example.tests.Take", parameters={"first_fd": 1, "second_fd": 0})), 2
    )
    check_call(
        interface,
        parse_call(call("org.example.tests.Take", parameters={"first_fd": None, "second_fd": 0})),
        1,
    )


def test_the_service_describes_itself_and_the_interface(interface):
    service = parse_interface(SERVICE_DEFINITION)
    info = answer_service(service, interface, parse_call(call("org.varlink.service.GetInfo")), 0)
    check_struct(service, service.methods["GetInfo"].reply, info)
    assert info["interfaces"] == ["org.varlink.service", "org.example.tests"]
    for name, text in (("org.example.tests", DEFINITION), ("org.varlink.service", SERVICE_DEFINITION)):
        ask = call("org.varlink.service.GetInterfaceDescription", parameters={"interface": name})
        assert answer_service(service, interface, parse_call(ask), 0) == {"description": text}
    ask = call("org.varlink.service.GetInterfaceDescription", parameters={"interface": "no.such"})
    with pytest.raises(ServiceError, match="InterfaceNotFound"):
        answer_service(service, interface, parse_call(ask), 0)


def test_answers_are_framed_as_the_protocol_says():
    assert encode_reply({"a": 1}) == b'{"parameters":{"a":1}}\0'
    assert encode_reply({}, continues=True) == b'{"parameters":{},"continues":true}\0'
    assert encode_error("a.B", {"c": "\0"}) == b'{"error":"a.B","parameters":{"c":"\\u0000"}}\0'


@given(st.lists(st.binary(max_size=20).map(lambda part: part.replace(b"\0", b"0")), max_size=5), st.data())
def test_messages_are_the_same_however_the_bytes_arrive(messages, data):
    stream = b"".join(message + b"\0" for message in messages) + b"rest"
    framer = Framer()
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += framer.feed(stream[:size])
        stream = stream[size:]
    assert found == messages
    assert framer.partial


def test_a_message_is_bounded_whether_finished_or_not():
    assert Framer().feed(b"x" * MAX_MESSAGE + b"\0") == [b"x" * MAX_MESSAGE]
    for tail in (b"", b"\0", b"\0short\0"):
        with pytest.raises(ProtocolError, match="at most 1048576 bytes"):
            Framer().feed(b"x" * (MAX_MESSAGE + 1) + tail)


def test_an_empty_struct_is_not_an_enumeration(interface):
    assert isinstance(interface.methods["Follow"].parameters, Struct)
