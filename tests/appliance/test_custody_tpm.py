"""A key sealed to a TPM: out of this chip alone, in this state alone; and a counter that only grows."""

from __future__ import annotations

import shutil
import sys

import pytest

from appliance.custody import slot, tpm
from appliance.custody.counter import Counter, raise_counter, read_counter, remove_counter
from appliance.errors import DeviceMissing, IntegrityError, PlatformChanged
from tests.devices import software_tpm

SECRET = b"the secret of the slot"


@pytest.fixture(scope="module")
def chip():
    with software_tpm() as found:
        yield found


@pytest.fixture
def fresh():
    """A TPM that the test may break."""
    with software_tpm() as found:
        yield found


def test_what_was_sealed_comes_out_again_and_again(chip, tmp_path):
    made = slot.create_slot(tmp_path, "vault", chip.uri(), None, SECRET)
    assert made.record == slot.read_record(tmp_path, "vault")
    assert made.shares == ()
    for _ in range(3):
        assert slot.open_slot(tmp_path, "vault", None) == SECRET


def test_nothing_of_the_identity_is_in_the_record(chip, tmp_path):
    made = tpm.make(chip.uri())
    assert made.secret not in slot.SlotRecord("age1x", made.lock).encode()
    assert bytes(made.secret) not in made.lock.private + made.lock.public
    assert made.lock.open(None, tmp_path) == made.secret


def test_more_registers_than_one_command_reads(chip, tmp_path):
    many = ",".join(map(str, range(12)))
    made = tpm.make(chip.uri(many))
    assert len(made.lock.values) == 12
    assert made.lock.open(None, tmp_path) == made.secret


def test_a_changed_register_is_named_and_the_former_state_opens_again(fresh, tmp_path):
    slot.create_slot(tmp_path, "vault", fresh.uri("0,7,10"), None, SECRET)
    fresh.extend(7)
    fresh.extend(10)
    with pytest.raises(PlatformChanged, match=r"found another value in PCR 7, 10: other firmware"):
        slot.open_slot(tmp_path, "vault", None)
    fresh.stop()
    fresh.start()  # a boot as it was
    assert slot.open_slot(tmp_path, "vault", None) == SECRET


def test_the_chip_itself_refuses_whatever_the_record_claims(fresh):
    """Whoever edits the register values in the record gains nothing: the policy is inside the object."""
    made = tpm.make(fresh.uri("7"))
    fresh.extend(7)
    with tpm.connected(fresh.tcti) as device:
        now = tpm.read_pcrs(device, (7,))
    forged = tpm.TpmSeal(made.lock.where, now, made.lock.private, made.lock.public, made.lock.counter)
    with pytest.raises(PlatformChanged, match="its registers changed just now"):
        forged.open(None, None)


def test_another_chip_opens_nothing(chip, fresh, tmp_path):
    made = tpm.make(chip.uri("7"))
    elsewhere = tpm.parse_tpm(fresh.uri("7"))
    stolen = tpm.TpmSeal(elsewhere, made.lock.values, made.lock.private, made.lock.public, made.lock.counter)
    with pytest.raises(PlatformChanged, match="expected the one that sealed this key, found another"):
        stolen.open(None, tmp_path)


def test_a_chip_that_is_gone_is_named_and_nothing_is_lost(fresh, tmp_path):
    made = slot.create_slot(tmp_path, "vault", fresh.uri(), None, SECRET)
    fresh.stop()
    with pytest.raises(DeviceMissing, match=r"expected one to answer at swtpm:path=.*, found none"):
        slot.open_slot(tmp_path, "vault", None)
    with pytest.raises(DeviceMissing):
        slot.create_slot(tmp_path, "other", fresh.uri(), None, SECRET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault.age", "vault.custody.json"]
    fresh.start()
    assert slot.open_slot(tmp_path, "vault", None) == SECRET
    assert slot.read_record(tmp_path, "vault") == made.record


def test_a_way_that_leads_to_no_chip_is_named():
    pytest.importorskip("tpm2_pytss", reason="the extra `tpm` is not installed (requirements/tpm.txt)")
    with pytest.raises(DeviceMissing, match="nonsense:x"):
        tpm.make("tpm:?tcti=nonsense:x")


def test_many_openings_leave_nothing_loaded_in_the_chip(chip, tmp_path):
    """swtpm, like a chip without a resource manager, has room for three objects and three sessions."""
    made = tpm.make(chip.uri())
    for _ in range(5):
        assert made.lock.open(None, tmp_path) == made.secret


def test_a_slot_that_cannot_be_written_leaves_no_counter_in_the_chip(chip, tmp_path, monkeypatch):
    made = []
    real = tpm.make
    monkeypatch.setattr(tpm, "make", lambda uri: made.append(real(uri)) or made[-1])
    monkeypatch.setattr(slot, "_write", raiser(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        slot.create_slot(tmp_path, "vault", chip.uri(), None, SECRET)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PlatformChanged, match="found none"):
        read_counter(chip.tcti, made[0].lock.counter)


def raiser(error):
    def fail(*_args):
        raise error

    return fail


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(DeviceMissing, match=r"needs the extra `tpm` \(tpm2-pytss\), which is not installed"):
        tpm.make("tpm:")


@pytest.mark.parametrize(
    "change",
    [
        {"pcrs": {"0": "00" * 32}},
        {"pcrs": {"0": "00" * 32, "7": "00"}},
        {"private": ""},
        {"public": "!"},
        {"counter": {"index": 1, "initial": 1}},
        {"counter": {"index": 0x01800000, "initial": 0}},
    ],
)
def test_a_record_that_is_none_is_damage(chip, change):
    made = tpm.make(chip.uri())
    fields = {**made.lock.fields()["tpm"], **change}
    with pytest.raises((ValueError, LookupError)):
        tpm.parse(made.lock.uri, fields)
    assert tpm.parse(made.lock.uri, made.lock.fields()["tpm"]) == made.lock


# The counter


def test_a_counter_grows_by_one_and_survives_the_power(fresh):
    counter = tpm.make(fresh.uri()).lock.counter
    assert read_counter(fresh.tcti, counter) == counter.initial
    assert raise_counter(fresh.tcti, counter) == counter.initial + 1
    fresh.stop()
    fresh.start()
    assert read_counter(fresh.tcti, counter) == counter.initial + 1


def test_a_counter_that_is_made_anew_never_repeats_a_value(fresh):
    first = tpm.make(fresh.uri()).lock.counter
    for _ in range(3):
        last = raise_counter(fresh.tcti, first)
    remove_counter(fresh.tcti, first)
    with pytest.raises(PlatformChanged, match=r"expected this home's counter at index 0x.*, found none"):
        raise_counter(fresh.tcti, first)
    second = tpm.make(fresh.uri()).lock.counter
    assert second.initial > last


def test_an_index_of_another_kind_is_no_counter(fresh):
    """An owner could set an ordinary index to any value."""
    counter = Counter(0x01800123, 1)
    with tpm.connected(fresh.tcti) as device:
        tss = device.tss
        public = tss.TPMS_NV_PUBLIC(
            nvIndex=counter.index,
            nameAlg=tss.TPM2_ALG.SHA256,
            attributes=tss.TPMA_NV.AUTHREAD | tss.TPMA_NV.AUTHWRITE,
            dataSize=8,
        )
        device.esys.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=public))
    with pytest.raises(PlatformChanged, match="expected a counter at index 0x01800123, found another kind"):
        read_counter(fresh.tcti, counter)


def test_a_damaged_sealed_object_is_not_taken(chip, tmp_path):
    slot.create_slot(tmp_path, "vault", chip.uri(), None, SECRET)
    path = tmp_path / "vault.custody.json"
    data = path.read_bytes()
    at = data.index(b'"private"') + 40
    path.write_bytes(data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :])
    with pytest.raises((PlatformChanged, IntegrityError)):
        slot.open_slot(tmp_path, "vault", None)
    shutil.rmtree(tmp_path)
