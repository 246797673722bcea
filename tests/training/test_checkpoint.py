"""A state that was copied stays as it was, whatever steps are taken after it."""

import numpy as np

from appliance.training.checkpoint import Snapshot, TrainingState


def state_of(trainer):
    return TrainingState(trainer.weights(), *trainer.optimizer_state())


def copied(state):
    return {name: tensor.copy() for part in (state.weights, state.optimizer) for name, tensor in part.items()}


def demand_equal(state, expected):
    found = {**state.weights, **state.optimizer}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_a_snapshot_keeps_what_later_steps_change(make_trainer):
    trainer, snapshot = make_trainer(), Snapshot()
    trainer.step()
    expected = copied(state_of(trainer))
    taken = snapshot.take(state_of(trainer))
    trainer.step()
    demand_equal(taken, expected)
    assert taken.metadata["step"] == "1"


def test_the_next_snapshot_uses_the_same_room(make_trainer):
    trainer, snapshot = make_trainer(), Snapshot()
    first = snapshot.take(state_of(trainer))
    trainer.step()
    second = snapshot.take(state_of(trainer))
    demand_equal(second, copied(state_of(trainer)))
    assert all(second.weights[name] is tensor for name, tensor in first.weights.items())


def test_a_run_that_goes_on_from_a_snapshot_ends_in_the_same_bits(make_trainer):
    whole, snapshot = make_trainer(), Snapshot()
    whole.step()
    resumed = make_trainer(snapshot.take(state_of(whole)))
    while not whole.done:
        assert whole.step() == resumed.step()
    demand_equal(state_of(resumed), copied(state_of(whole)))
