"""No receipt, no key: every way to ask custody for a key without a live grant, and every swap on disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from appliance import age
from appliance.custody.keyring import Keyring
from appliance.custody.release import Custody
from appliance.errors import (
    Incomplete,
    IntegrityError,
    OtherTarget,
    PolicyRefused,
    SealedError,
    UnknownObject,
)
from appliance.grants import Grant, LiveGrants
from appliance.vault import Vault


class Bench:
    """A vault, its keys and a gate that always says yes."""

    def __init__(self, root, *, hybrid=False, recovery=None):
        self.root = root
        self.now = 0.0
        self.vault = Vault(root)
        self.vault.create()
        self.live = LiveGrants(lambda: self.now)
        self.custody = Custody(Keyring.generate(hybrid=hybrid), self.vault, self.live, recovery)
        self.index = 0

    def seal(self, plain, *, publish=True):
        output = self.custody.mint()
        fd = self.vault.stage(output.object_id, output.header, output.nonce)
        with age.PayloadWriter(age.descriptor_sink(fd), output.key) as writer:
            writer.write(plain)
        os.close(fd)
        if publish:
            self.vault.publish(output.object_id)
        return output.object_id

    def grant(self, object_id, action="use"):
        self.index += 1
        made = Grant(self.index, b"proof", b"entry", "Job:j", action, object_id, "j", self.now + 60)
        self.live.issue(made)
        return made

    def open(self, object_id, action="use", *, staged=False):
        key = self.custody.unwrap(self.grant(object_id, action)).key
        fd = self.vault.open_staged(object_id) if staged else self.vault.open_payload(object_id)
        try:
            return age.PayloadReader(fd, key, 16, os.fstat(fd).st_size - 16).readall()
        finally:
            os.close(fd)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "vault")


@pytest.mark.parametrize("hybrid", [False, True])
def test_what_was_minted_and_sealed_opens_with_a_grant(tmp_path, hybrid):
    bench = Bench(tmp_path / "vault", hybrid=hybrid)
    name = bench.seal(b"weights" * 100_000)
    assert bench.open(name) == b"weights" * 100_000
    staged = bench.seal(b"staged", publish=False)
    assert bench.open(staged, "verify", staged=True) == b"staged"


def test_a_grant_yields_one_key_once(bench):
    grant = bench.grant(bench.seal(b"x"))
    bench.custody.unwrap(grant)
    with pytest.raises(PolicyRefused, match="issued by the gate and unused"):
        bench.custody.unwrap(grant)


def test_a_copied_grant_yields_nothing(bench):
    grant = bench.grant(bench.seal(b"x"))
    with pytest.raises(PolicyRefused):
        bench.custody.unwrap(replace(grant))


def test_an_expired_grant_yields_nothing(bench):
    grant = bench.grant(bench.seal(b"x"))
    bench.now += 60
    with pytest.raises(PolicyRefused, match="expired"):
        bench.custody.unwrap(grant)


@pytest.mark.parametrize("action", ["train", "import", "read", "rotate", "open", ""])
def test_a_decision_that_is_not_about_a_key_yields_none(bench, action):
    grant = bench.grant(bench.seal(b"x"), action)
    with pytest.raises(PolicyRefused, match="expected one of use, verify, found"):
        bench.custody.unwrap(grant)


def test_a_failed_attempt_spends_the_grant(bench):
    missing = bench.grant("ab" * 32)
    with pytest.raises(UnknownObject, match="expected it published"):
        bench.custody.unwrap(missing)
    with pytest.raises(PolicyRefused):
        bench.custody.unwrap(missing)


def test_a_grant_for_something_that_is_no_object_reaches_no_file(bench):
    with pytest.raises(UnknownObject, match="expected 64 lower-case hex digits"):
        bench.custody.unwrap(bench.grant("../../etc/passwd"))


def test_after_a_wipe_nothing_is_released_or_made(bench):
    name = bench.seal(b"x")
    before = bench.grant(name)
    bench.custody.wipe()
    for use in (
        lambda: bench.custody.unwrap(before),
        lambda: bench.custody.unwrap(bench.grant(name)),
        lambda: bench.custody.unwrap_parts(bench.grant("b", "open"), []),
        bench.custody.mint,
        lambda: bench.custody.mint_for([age.X25519Identity.generate().recipient]),
        lambda: bench.custody.keyring.entry_secret,
    ):
        with pytest.raises(SealedError, match="unseal"):
            use()


def test_a_folder_renamed_to_another_object_is_refused(bench):
    secret, harmless = bench.seal(b"secret"), bench.seal(b"harmless")
    shutil.rmtree(bench.root / harmless)
    shutil.copytree(bench.root / secret, bench.root / harmless)
    with pytest.raises(IntegrityError, match=f"belong to object {secret}; the folder was tampered with"):
        bench.custody.unwrap(bench.grant(harmless))


@pytest.mark.parametrize("name", ["header", "payload"])
def test_a_header_or_payload_taken_from_another_object_is_refused(bench, name):
    secret, harmless = bench.seal(b"secret"), bench.seal(b"harmless")
    target = bench.root / harmless / name
    target.unlink()
    shutil.copy(bench.root / secret / name, target)
    with pytest.raises(IntegrityError, match="the folder was tampered with"):
        bench.custody.unwrap(bench.grant(harmless))


def test_a_header_sealed_to_somebody_else_is_refused_as_damage(bench):
    name = bench.seal(b"x")
    stranger = age.X25519Identity.generate().recipient
    (bench.root / name / "header").write_bytes(age.encode_header(bytes(16), [stranger]))
    with pytest.raises(
        IntegrityError, match="expected a header for this vault's identity, found one for others"
    ):
        bench.custody.unwrap(bench.grant(name))


def test_bytes_behind_a_header_are_refused(bench):
    name = bench.seal(b"x")
    with (bench.root / name / "header").open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(IntegrityError, match="age header"):
        bench.custody.unwrap(bench.grant(name))


def test_a_missing_header_is_named(bench):
    name = bench.seal(b"x")
    (bench.root / name / "header").unlink()
    with pytest.raises(Incomplete, match="expected a file header"):
        bench.custody.unwrap(bench.grant(name))


def test_the_public_program_opens_an_object_by_its_two_files(bench, tmp_path):
    if shutil.which("age") is None:
        pytest.skip("the public age program is not installed")
    name = bench.seal(b"for decades")
    read_end, write_end = os.pipe()
    bench.custody.reveal_identity(write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        (tmp_path / "identity").write_bytes(stream.read())
    data = b"".join((bench.root / name / part).read_bytes() for part in ("header", "payload"))
    done = subprocess.run(
        ["age", "-d", "-i", tmp_path / "identity"], input=data, capture_output=True, check=True
    )
    assert done.stdout == b"for decades"


def test_the_recovery_recipient_opens_what_the_vault_seals(tmp_path):
    offline = age.X25519Identity.generate()
    bench = Bench(tmp_path / "vault", recovery=offline.recipient)
    name = bench.seal(b"recovered")
    data = b"".join((bench.root / name / part).read_bytes() for part in ("header", "payload"))
    assert age.open_bytes(data, [offline]) == b"recovered"
    assert bench.open(name) == b"recovered"


def part_for(recipient, plain=b"part"):
    data = age.seal_bytes(plain, [recipient])
    size = data.index(b"\n", data.index(b"\n---") + 1) + 1
    return (data[:size], data[size : size + 16]), data[size + 16 :]


def test_all_parts_of_a_bundle_open_under_one_grant(bench, tmp_path):
    recipient = bench.custody.keyring.transfer_identity.recipient
    (one, first), (two, _) = part_for(recipient), part_for(recipient, b"two")
    keys = bench.custody.unwrap_parts(bench.grant("bundle-1", "open"), [one, two])
    assert len(keys) == 2
    (tmp_path / "part").write_bytes(first)
    with (tmp_path / "part").open("rb") as stream:
        assert age.PayloadReader(stream.fileno(), keys[0], 0, len(first)).read() == b"part"


def test_a_part_for_another_appliance_is_called_that(bench):
    ours = part_for(bench.custody.keyring.transfer_identity.recipient)[0]
    theirs = part_for(age.X25519Identity.generate().recipient)[0]
    with pytest.raises(
        OtherTarget, match="bundle part 2: expected it addressed to this appliance's transfer"
    ):
        bench.custody.unwrap_parts(bench.grant("bundle-1", "open"), [ours, theirs])


def test_a_vault_object_cannot_come_back_as_a_bundle(bench):
    name = bench.seal(b"secret")
    stolen = (bench.vault.header(name), bench.vault.nonce(name))
    with pytest.raises(OtherTarget):
        bench.custody.unwrap_parts(bench.grant("bundle-1", "open"), [stolen])


def test_the_right_to_an_object_opens_no_bundle_and_the_other_way_round(bench):
    with pytest.raises(PolicyRefused, match="expected one of open, found 'use'"):
        bench.custody.unwrap_parts(bench.grant("bundle-1", "use"), [])
    with pytest.raises(PolicyRefused, match="found 'open'"):
        bench.custody.unwrap(bench.grant(bench.seal(b"x"), "open"))


def test_the_vault_s_own_identity_is_never_an_export_s_recipient(bench):
    with pytest.raises(PolicyRefused, match="never a recipient of a bundle"):
        bench.custody.mint_for([bench.custody.keyring.vault_identity.recipient])
    recipient = age.X25519Identity.generate()
    output = bench.custody.mint_for([recipient.recipient])
    file_key = age.unwrap_file_key(age.parse_header(output.header), [recipient])
    assert age.payload_key(file_key, output.nonce) == output.key


def test_keys_do_not_show_in_text_and_can_be_wiped(bench):
    output = bench.custody.mint()
    key = bench.custody.unwrap(bench.grant(bench.seal(b"x")))
    for held in (output, key):
        assert held.key.hex() not in repr(held)
        assert repr(bytes(held.key))[2:-1] not in repr(held)
        held.wipe()
        assert held.key == bytes(32)
