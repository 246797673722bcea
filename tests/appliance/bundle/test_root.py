"""A root changes by its own signatures only, without gaps, and each role signs its own kinds."""

from dataclasses import replace

import pytest

from appliance.bundle import dsse
from appliance.bundle.create import sign_bundle
from appliance.bundle.folder import BundleFolder
from appliance.bundle.manifest import target_of
from appliance.bundle.open import read_manifest, travelling_roots
from appliance.bundle.root import (
    COURIER,
    RELEASE,
    RESEARCHER,
    ROOT,
    Role,
    Root,
    add_signature,
    encode_root,
    follow,
    parse_root,
    unsigned_envelope,
    unverified_root,
    verify_first,
    verify_next,
)
from appliance.bundle.signer import SignerKey
from appliance.bundle.trust import Trust
from appliance.errors import ContentRefused, Expired, IntegrityError, SignatureError

KEYS = {name: SignerKey.from_seed(name, bytes([number]) * 32) for number, name in enumerate("abcdefg", 1)}


def role(names, threshold):
    return Role(tuple(KEYS[name].vkey for name in names), threshold)


FIRST = Root(
    1, {ROOT: role("abc", 2), RESEARCHER: role("de", 1), RELEASE: role("fg", 2), COURIER: role("", 1)}, ()
)


def signed(root, names):
    envelope = unsigned_envelope(root)
    for name in names:
        envelope = add_signature(envelope, KEYS[name])
    return envelope


def second(**changed):
    return replace(FIRST, version=2, **changed)


def test_a_root_is_read_back():
    assert parse_root(encode_root(FIRST)) == FIRST
    assert unverified_root(signed(FIRST, "ab")) == FIRST


@pytest.mark.parametrize("names", ["ab", "bc", "abc"])
def test_a_first_version_is_signed_by_its_own_threshold(names):
    assert verify_first(signed(FIRST, names)) == FIRST


@pytest.mark.parametrize("names", ["", "a", "ad", "defg"])
def test_a_first_version_with_too_few_root_keys_is_refused(names):
    with pytest.raises(SignatureError, match="expected signatures by 2 trusted signers"):
        verify_first(signed(FIRST, names))


def test_the_next_version_needs_the_thresholds_of_both():
    moved = second(roles={**FIRST.roles, ROOT: role("cfg", 2)})
    assert verify_next(FIRST, signed(moved, "bcf")) == moved
    for names in ("ab", "fg", "cf", "bc"):
        with pytest.raises(SignatureError):
            verify_next(FIRST, signed(moved, names))


def test_one_key_under_two_names_counts_once():
    again = SignerKey.from_seed("another", bytes([1]) * 32)
    with pytest.raises(ContentRefused, match="found one twice"):
        encode_root(second(roles={**FIRST.roles, ROOT: Role((KEYS["a"].vkey, again.vkey), 2)}))


def test_no_version_can_be_left_out():
    third = replace(FIRST, version=3)
    with pytest.raises(ContentRefused, match="expected version 2 after 1, found 3"):
        verify_next(FIRST, signed(third, "ab"))
    with pytest.raises(ContentRefused, match="expected version 1 to begin with, found version 3"):
        verify_first(signed(third, "ab"))


def test_a_chain_is_followed_from_where_one_stands():
    chain = [signed(FIRST, "ab"), signed(second(), "bc"), signed(replace(FIRST, version=3), "ac")]
    newest, new = follow(FIRST, chain)
    assert (newest.version, new) == (3, tuple(chain[1:]))
    assert follow(newest, chain) == (newest, ())
    assert follow(newest, chain[:1]) == (newest, ())


def test_what_was_revoked_stays_revoked():
    revoking = second(revoked=("ab" * 32,))
    verify_next(FIRST, signed(revoking, "ab"))
    with pytest.raises(ContentRefused, match="to keep what was revoked"):
        verify_next(revoking, signed(replace(FIRST, version=3), "ab"))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"roles": {**FIRST.roles, ROOT: role("a", 2)}}, "expected at least 2 keys"),
        ({"roles": {**FIRST.roles, ROOT: role("", 1)}}, "expected at least 1 keys"),
        ({"roles": {**FIRST.roles, RELEASE: role("f", 2)}}, "expected at least 2 keys"),
        ({"revoked": ("ab",)}, "by the SHA-256"),
        ({"revoked": ("cd" * 32, "ab" * 32)}, "sorted and once"),
    ],
)
def test_a_root_that_nobody_could_follow_is_not_written(changed, match):
    with pytest.raises(ContentRefused, match=match):
        encode_root(replace(FIRST, **changed))


def test_every_flipped_byte_of_a_root_is_refused():
    envelope = signed(second(), "ab")
    for at in range(len(envelope)):
        flipped = envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]
        with pytest.raises((SignatureError, ContentRefused)):
            verify_next(FIRST, flipped)


# Bundles by role


def read(world, bundle, root=FIRST):
    with BundleFolder.open(bundle) as folder:
        newest, _ = follow(root, travelling_roots(folder))
        return read_manifest(folder, Trust(newest), target_of(world.to))


def test_a_researcher_signs_corpora(world):
    assert read(world, world.create(sign=KEYS["d"])).kind == "corpus"


@pytest.mark.parametrize("name", ["a", "f"])
def test_a_key_of_another_role_signs_none(world, name):
    with pytest.raises(SignatureError, match="that may sign bundles of kind corpus, found none"):
        read(world, world.create(sign=KEYS[name]))


def test_a_stranger_is_refused_by_signature(world):
    with pytest.raises(SignatureError, match=r"found 0 \(signed by alice"):
        read(world, world.create())


def test_two_of_a_role_are_needed_where_the_root_says_so(world):
    strict = replace(FIRST, roles={**FIRST.roles, RESEARCHER: role("def", 2)})
    one = world.create(sign=KEYS["d"])
    with pytest.raises(SignatureError, match="by 2 of d"):
        read(world, one, strict)
    two = world.create(sign=KEYS["d"], also=[KEYS["e"]], seq=8, entropy=lambda size: b"\1" * size)
    assert read(world, two, strict).quorum == 2


def test_a_signer_elsewhere_adds_his_signature(world):
    bundle = world.create(sign=KEYS["d"], awaited=[KEYS["e"].vkey])
    with pytest.raises(SignatureError, match=r"by 2 of d\+"):
        read(world, bundle)
    with BundleFolder.open(bundle) as folder:
        sign_bundle(folder, KEYS["e"])
        sign_bundle(folder, KEYS["e"])
    assert read(world, bundle).signers == (dsse.key_id(KEYS["d"].vkey), dsse.key_id(KEYS["e"].vkey))
    with BundleFolder.open(bundle) as folder, pytest.raises(SignatureError, match="with --cosigner"):
        sign_bundle(folder, KEYS["f"])


def test_a_bundle_brings_the_versions_that_make_its_signer_one(world):
    moved = second(roles={**FIRST.roles, RESEARCHER: role("g", 1)})
    chain = [signed(FIRST, "ab"), signed(moved, "ab")]
    bundle = world.create(sign=KEYS["g"], roots=chain)
    assert sorted(path.name for path in bundle.glob("r0*")) == ["r0001.json", "r0002.json"]
    assert len(read(world, bundle).roots) == 2
    with pytest.raises(SignatureError):  # d was left out, and so revoked
        read(world, world.create(sign=KEYS["d"], seq=8, entropy=lambda size: b"\1" * size), moved)


def test_a_version_that_was_exchanged_on_the_way_is_refused(world):
    chain = [signed(FIRST, "ab"), signed(second(), "ab")]
    bundle = world.create(sign=KEYS["d"], roots=chain)
    (bundle / "r0002.json").write_bytes(signed(second(), "bc"))
    with pytest.raises(IntegrityError, match=r"r0002\.json: expected what was signed"):
        read(world, bundle)
    (bundle / "r0002.json").write_bytes(signed(second(), "a"))
    with pytest.raises(SignatureError):
        read(world, bundle)


def test_a_revoked_bundle_is_refused(world):
    bundle = world.create(sign=KEYS["d"])
    digest = read(world, bundle).digest
    with pytest.raises(Expired, match=f"found {digest} revoked by version 2"):
        read(world, bundle, second(revoked=(digest,)))


def test_a_role_without_keys_signs_nothing(world):
    root = replace(FIRST, roles={**FIRST.roles, RESEARCHER: role("", 1)})
    with pytest.raises(SignatureError):
        read(world, world.create(sign=KEYS["d"]), root)
    listed = replace(root, roles={**root.roles, COURIER: role("d", 1)})
    with pytest.raises(SignatureError, match="expected keys for the role researcher, found none"):
        read(world, world.create(sign=KEYS["d"], seq=8, entropy=lambda size: b"\1" * size), listed)
