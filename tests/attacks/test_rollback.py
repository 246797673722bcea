"""A home set back as a whole, with a TPM: noticed at the next start, by a number nobody makes smaller."""

from __future__ import annotations

import shutil

import pytest

from appliance.custodian.counting import RolledBack
from appliance.custody.counter import raise_counter, read_counter
from appliance.custody.tpm import TpmSeal
from appliance.errors import DeviceMissing, PlatformChanged, SetBack
from appliance.restore import restore
from tests.devices import software_tpm
from tests.simulator import Simulator


@pytest.fixture
def chip():
    with software_tpm() as found:
        yield found


@pytest.fixture
def sim(tmp_path, chip):
    simulator = Simulator(tmp_path, custody=chip.uri())
    yield simulator
    simulator.close()


def counter(sim):
    lock = sim.core.slot_record.lock
    assert isinstance(lock, TpmSeal)
    return lock.counter


def set_back(sim, copy):
    shutil.rmtree(sim.home.root)
    shutil.copytree(copy, sim.home.root)


def kinds(sim):
    return [entry.kind for entry in sim.entries(0)]


def test_a_home_that_was_set_back_does_not_start(sim, chip, tmp_path):
    sim.stop()
    shutil.copytree(sim.home.root, tmp_path / "copy")
    sim.start()
    sim.unseal()
    sim.stop()
    shutil.copytree(sim.home.root, tmp_path / "newest")
    set_back(sim, tmp_path / "copy")
    sim.refuses_to_start(
        RolledBack, "this home was set back: the TPM's counter stands at 3, its log ends at 2"
    )
    sim.refuses_to_start(RolledBack, "so 1 starts or bundles are missing")
    assert issubclass(RolledBack, SetBack)
    assert RolledBack.exit_code == 25
    set_back(sim, tmp_path / "newest")  # nothing was lost by the attempt
    sim.start()
    sim.unseal()


def test_each_start_raises_the_counter_and_the_log_says_so_first(sim, chip):
    for _ in range(3):
        sim.restart()
        told = [entry for entry in sim.entries(0) if entry.kind == "counter-raised"][-1].context
        assert told["value"] == read_counter(chip.tcti, counter(sim))
        assert (told["index"], told["why"]) == (counter(sim).index, "start")
    assert kinds(sim).count("counter-raised") == 4


def test_a_bundle_raises_it_so_that_no_state_between_two_starts_can_be_put_back(sim, tmp_path):
    sim.stop()
    sim.start()
    sim.unseal()
    sim.stop()
    shutil.copytree(sim.home.root, tmp_path / "copy")
    sim.start()
    sim.unseal()
    sim.core.counting.raise_for("export")
    sim.stop()
    set_back(sim, tmp_path / "copy")
    sim.refuses_to_start(RolledBack, "so 2 starts or bundles are missing")


def test_a_crash_between_the_log_and_the_chip_is_made_good(sim, chip, monkeypatch):
    from appliance.custodian import counting  # noqa: PLC0415  patched in this test alone

    def killed(*_args):
        raise KeyboardInterrupt

    before = read_counter(chip.tcti, counter(sim))
    sim.stop()
    with monkeypatch.context() as patch:
        patch.setattr(counting, "raise_counter", killed)
        with pytest.raises(KeyboardInterrupt):
            sim.start()
    sim.start()
    told = [entry.context["value"] for entry in sim.entries(0) if entry.kind == "counter-raised"]
    assert told == list(range(2, before + 2))
    assert read_counter(chip.tcti, counter(sim)) == before + 1
    sim.restart()
    assert read_counter(chip.tcti, counter(sim)) == before + 2


def test_a_chip_that_does_not_answer_keeps_the_vault_shut_and_not_the_log(sim, chip):
    sim.stop()
    chip.stop()
    sim.start()
    assert any("could not be compared: TPM: expected one to answer" in said for said in sim.core.warnings())
    for _ in range(2):
        with pytest.raises(DeviceMissing):
            sim.core.counting.demand_compared(by_recovery=False)
    with pytest.raises(DeviceMissing):
        sim.core.counting.raise_for("import")
    sim.core.counting.demand_compared(by_recovery=True)  # for the day when the chip is gone
    chip.start()
    sim.core.counting.demand_compared(by_recovery=False)
    assert sim.core.counting.problem == ""
    sim.unseal()


def test_a_home_that_was_set_back_while_the_chip_was_away_is_not_unsealed(sim, chip, tmp_path):
    sim.stop()
    shutil.copytree(sim.home.root, tmp_path / "copy")
    sim.start()
    sim.stop()
    set_back(sim, tmp_path / "copy")
    chip.stop()
    sim.start()
    chip.start()
    with pytest.raises(RolledBack):
        sim.core.counting.demand_compared(by_recovery=False)


def test_somebody_elses_raise_stops_the_appliance_and_does_not_deceive_it(sim, chip):
    raise_counter(chip.tcti, counter(sim))
    sim.stop()
    sim.refuses_to_start(RolledBack, "so 1 starts or bundles are missing")


def test_another_chip_is_told_from_a_home_set_back(sim, chip, monkeypatch):
    from appliance.custodian import counting  # noqa: PLC0415  patched in this test alone

    for _ in range(3):
        sim.restart()
    monkeypatch.setattr(counting, "read_counter", lambda *_args: 1)
    with pytest.raises(PlatformChanged, match="expected its counter at 5, found 1: another TPM"):
        sim.core.counting.raise_for("import")


def test_a_restored_log_takes_the_counter_as_it_is_once(sim, chip, tmp_path):
    sim.stop()
    shutil.copytree(sim.home.root, tmp_path / "backup")
    for _ in range(2):
        sim.start()
        sim.stop()
    set_back(sim, tmp_path / "backup")
    sim.refuses_to_start(RolledBack, "set back")
    shutil.rmtree(sim.home.root)
    restore(tmp_path / "backup", sim.home.root)
    sim.start()
    sim.unseal()
    sim.stop()
    shutil.copytree(sim.home.root, tmp_path / "later")
    sim.start()
    sim.stop()
    set_back(sim, tmp_path / "later")
    sim.refuses_to_start(RolledBack, "so 1 starts or bundles are missing")


def test_without_a_chip_a_home_set_back_starts_as_if_nothing_had_been(tmp_path):
    """What SECURITY.md says cannot be prevented: witnesses and other people's heads are all there is."""
    sim = Simulator(tmp_path)
    try:
        sim.stop()
        shutil.copytree(sim.home.root, tmp_path / "copy")
        sim.start()
        sim.unseal()
        sim.add("config", "newest", b"x = 1\n")
        sim.stop()
        set_back(sim, tmp_path / "copy")
        sim.start()
        assert "counter-raised" not in kinds(sim)
    finally:
        sim.close()
