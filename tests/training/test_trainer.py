"""A run repeats to the bit, resumes to the bit, learns, and stops where numbers end."""

import math

import numpy as np
import pytest

import kernels
from appliance.errors import ContentRefused, JobFailed
from appliance.training import safetensors
from appliance.training.accounting import flops_per_step, parameter_count
from appliance.training.checkpoint import TrainingState
from appliance.training.tensorfile import TensorFile
from appliance.training.trainer import Trainer
from tests.training.memory import InMemory


def saved(trainer):
    """The state after a trip through both files."""
    weights, optimizer = InMemory(), InMemory()
    safetensors.write(weights, trainer.weights(), {})
    safetensors.write(optimizer, *trainer.optimizer_state())
    moments = TensorFile(optimizer)
    return TrainingState(TensorFile(weights).load(), moments.load(), moments.header.metadata)


def bits(trainer):
    moments, metadata = trainer.optimizer_state()
    return [(n, a.tobytes()) for n, a in {**trainer.weights(), **moments}.items()], metadata


def finish(trainer):
    results = []
    while not trainer.done:
        results.append(trainer.step())
    return results


def test_two_runs_are_equal_to_the_bit(make_trainer):
    first, second = make_trainer(), make_trainer()
    assert finish(first) == finish(second)
    assert bits(first) == bits(second)
    assert first.evaluate() == second.evaluate()


@pytest.mark.parametrize("stop", range(7))
def test_a_run_stopped_after_any_step_resumes_to_the_same_bits(make_trainer, stop):
    whole, part = make_trainer(), make_trainer()
    expected = finish(whole)
    for _ in range(stop):
        part.step()
    resumed = make_trainer(saved(part))
    assert resumed.next_step == stop
    assert finish(resumed) == expected[stop:]
    assert bits(resumed) == bits(whole)


def test_evaluation_and_a_look_at_the_state_change_nothing(make_trainer):
    watched, plain = make_trainer(), make_trainer()
    while not plain.done:
        watched.evaluate()
        saved(watched)
        assert watched.step() == plain.step()
    assert bits(watched) == bits(plain)


def test_another_seed_is_another_run(make_trainer):
    assert finish(make_trainer(seed=1)) != finish(make_trainer(seed=2))


def test_a_run_learns_an_easy_text(make_trainer):
    trainer = make_trainer(steps=150, batch=8, learning_rate=0.01, warmup_steps=10)
    before = trainer.evaluate()
    losses = [result.loss for result in finish(trainer)]
    assert before.bits_per_byte > 7.5  # eight for bytes drawn evenly
    assert trainer.evaluate().bits_per_byte < 2.5
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:10])


def test_results_are_numbers_of_their_step(make_trainer):
    results = finish(make_trainer())
    assert [result.step for result in results] == list(range(6))
    assert all(result.tokens == 3 * 16 for result in results)
    assert all(math.isfinite(result.loss) and result.grad_norm > 0 for result in results)


def test_a_step_beyond_the_last_is_refused(make_trainer):
    trainer = make_trainer()
    finish(trainer)
    with pytest.raises(JobFailed, match=r"step 6: expected at most train\.steps = 6"):
        trainer.step()


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_numbers_that_end_stop_the_run_name_the_step_and_leave_the_weights(make_trainer, poison):
    trainer = make_trainer()
    trainer.step()
    trainer.model.parameters.views["h.1.mlp.c_fc.weight"][0, 0] = poison
    before = bits(trainer)
    with pytest.raises(
        JobFailed, match=r"step 1: expected a finite loss and gradient, found loss .* in tensor "
    ):
        trainer.step()
    assert bits(trainer) == before
    assert trainer.next_step == 1


def test_a_loss_far_above_its_mean_stops_the_run_names_step_and_tensor_and_leaves_the_weights(make_trainer):
    trainer = make_trainer(spike=1.5)
    for _ in range(3):
        trainer.step()
    trainer.model.parameters.views["ln_f.weight"][...] *= 1000.0
    before = bits(trainer)
    with pytest.raises(
        JobFailed, match=r"step 3: expected a loss of at most 8\.\d+ nats, .* in tensor \S+; the weights"
    ):
        trainer.step()
    assert bits(trainer) == before
    calm = make_trainer(spike=1.5)
    assert len(finish(calm)) == 6


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_run_without_gain_ends_early_also_when_it_was_resumed(make_trainer, stop):
    setting = {"steps": 100, "warmup_steps": 0, "eval_every": 2, "patience": 3, "learning_rate": 1e-9}
    setting["min_learning_rate"] = 0.0

    def run(trainer):
        while not trainer.done:
            trainer.step()
            if trainer.next_step % 2 == 0:
                trainer.evaluate()
                trainer.evaluate()  # the same step counts once
            if trainer.next_step == stop:
                trainer = make_trainer(saved(trainer), **setting)
        return trainer

    # Rounding alone moves the figure: it gains at most a few times by chance.
    whole = run(make_trainer(**setting))
    assert 6 <= whole.next_step < 100
    with pytest.raises(JobFailed, match=r"none once train\.patience evaluations brought no gain"):
        whole.step()
    plain = make_trainer(**setting)
    while not plain.done:
        plain.step()
        if plain.next_step % 2 == 0:
            plain.evaluate()
    assert bits(plain) == bits(whole)


def test_an_evaluation_that_is_not_finite_is_told_apart_from_a_figure(make_trainer):
    trainer = make_trainer()
    trainer.model.parameters.views["ln_f.weight"][0] = np.nan
    with pytest.raises(JobFailed, match="evaluation before step 0: expected finite bits per byte, found nan"):
        trainer.evaluate()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("step", "7", "expected a step from 0 to 6, found '7'"),
        ("step", "-1", "expected a step from 0 to 6"),
        ("step", "1.0", "expected a step from 0 to 6"),
        ("step", "\u0661", "expected a step from 0 to 6"),
        ("step", "9" * 5000, "expected a step from 0 to 6"),
        ("config_sha256", "0" * 64, "expected a state of the config .*found one of 0000000000000000"),
        ("format", "other/1", "this is no optimizer state of ours"),
        ("more", "x", "this is no optimizer state of ours"),
        ("watch", "0x1p0 0x1p0 0", "expected a watch of four numbers, found something else"),
        ("watch", "nan inf 0 -1", "expected a watch of four numbers in range"),
        ("watch", "0x1p0 0x1p0 0 " + "9" * 5000, "expected a watch of four numbers"),
        ("watch", "1.0 inf 0 -1", "expected a watch of four numbers"),
    ],
)
def test_a_state_of_another_run_is_refused(make_trainer, key, value, message):
    state = saved(make_trainer())
    with pytest.raises(ContentRefused, match=message):
        make_trainer(TrainingState(state.weights, state.optimizer, {**state.metadata, key: value}))


def test_a_state_with_other_tensors_is_refused(make_trainer):
    state = saved(make_trainer())
    odd = {**state.optimizer, "third.x": np.zeros(1, np.float32)}
    with pytest.raises(ContentRefused, match=r"expected tensors first\.\* and second\.\*, found 'third.x'"):
        make_trainer(TrainingState(state.weights, odd, state.metadata))
    lacking = {name: tensor for name, tensor in state.optimizer.items() if name != "second.wte.weight"}
    with pytest.raises(ContentRefused, match=r"second moments: tensor 'wte\.weight' is missing"):
        make_trainer(TrainingState(state.weights, lacking, state.metadata))
    with pytest.raises(ContentRefused, match=r"weights: tensor 'h\.0\.attn"):
        make_trainer(TrainingState({}, state.optimizer, state.metadata))


def test_a_precision_that_the_backend_lacks_is_refused(make_trainer):
    with pytest.raises(ContentRefused, match=r"train\.precision: expected one of fp32, .*found 'bf16'"):
        make_trainer(precision='"bf16"')


def test_a_step_of_gathered_batches_is_that_of_one_large_batch(make_trainer):
    whole, gathered = make_trainer(batch=6), make_trainer(batch=2, accumulate=3)
    for _ in range(3):
        one, other = whole.step(), gathered.step()
        assert other.tokens == one.tokens == 6 * 16
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


def test_resume_by_its_parts_is_the_same_as_by_its_state(make_trainer):
    trainer = make_trainer()
    trainer.step()
    state = saved(trainer)
    other = Trainer.resume(
        trainer.config,
        trainer.corpus,
        kernels.backend(),
        weights=state.weights,
        optimizer=state.optimizer,
        metadata=state.metadata,
    )
    assert bits(other) == bits(trainer)


def test_operations_and_parameters_follow_from_the_config(make_trainer):
    trainer = make_trainer()
    matrices = 256 * 16 + 2 * 12 * 16 * 16
    others = 16 * 16 + 2 * (4 * 16 + 3 * 16 + 16 + 4 * 16 + 16) + 2 * 16
    assert parameter_count(trainer.config.model) == matrices + others
    trainer.step()
    assert trainer.flops == flops_per_step(trainer.config)
