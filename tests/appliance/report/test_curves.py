"""Figures become curves in honest units."""

from __future__ import annotations

import math

import pytest

from appliance.report.curves import (
    Series,
    evaluations,
    is_of_bytes,
    loss_panels,
    other_panels,
    scales_of,
)
from tests.appliance.report.telling import ACCOUNT, TOKENIZER, event, events, objects, row, sources


def test_losses_of_bytes_share_one_unit():
    (panel,) = loss_panels(events(), scales_of(None), of_bytes=True)
    assert panel.y_label == "bits per byte"
    training, held_out = panel.series
    assert training.name == "training, bits per byte"
    assert training.ys[0] == pytest.approx((5.6 - 1 / 8) / math.log(2))
    assert (held_out.xs, held_out.ys) == ((0, 50, 100, 150, 200), (8.0, 7.0, 6.0, 5.0, 4.0))


def test_losses_of_other_tokens_keep_their_own_unit():
    (panel,) = loss_panels(events(), scales_of(None), of_bytes=False)
    assert panel.y_label == "bits"
    assert [line.name for line in panel.series] == ["training, bits per token", "held out, bits per byte"]


def test_a_scale_is_what_each_step_took_on_the_average():
    steps, tokens, operations = scales_of(ACCOUNT)
    assert (steps.per_step, tokens.per_step, operations.per_step) == (1.0, 128.0, 2e7)
    _, by_tokens, _ = loss_panels(events(), scales_of(ACCOUNT), of_bytes=True)
    assert by_tokens.series[1].xs == (0, 6400, 12800, 19200, 25600)


def test_a_resumed_run_is_scaled_by_the_steps_that_its_account_is_of():
    assert scales_of({**ACCOUNT, "begin_step": 100})[1].per_step == 256.0


def test_an_account_of_no_step_scales_nothing():
    assert [scale.label for scale in scales_of({**ACCOUNT, "begin_step": 200})] == ["steps"]


def test_where_nothing_was_told_nothing_is_drawn():
    assert loss_panels([event(1, "started")], scales_of(ACCOUNT), of_bytes=True) == ()
    assert other_panels([event(1, "evaluated", bits_per_byte=3.0)]) == ()
    (alone,) = loss_panels([event(1, "evaluated", bits_per_byte=3.0)], scales_of(None), of_bytes=False)
    assert [line.name for line in alone.series] == ["held out, bits per byte"]
    assert alone.y_label == "bits per byte"


def test_what_is_not_finite_or_told_again_is_drawn_once_or_not():
    told = [event(1, loss=math.nan), event(2, loss=3.0), event(2, loss=2.0)]
    (panel,) = loss_panels(told, scales_of(None), of_bytes=True)
    assert panel.series == (Series("training, bits per byte", (20.0,), (pytest.approx(2 / math.log(2)),)),)


def test_the_other_figures_stand_against_steps():
    rate, speed = other_panels(events())
    assert (rate.title, speed.title) == ("Learning rate", "Throughput")
    assert speed.series[0].ys[-1] == 4020.0
    assert speed.words == "Throughput. tokens a second from 4001 to 4020, lowest 4001."


def test_evaluations_are_listed_by_step():
    assert evaluations(events())[-1] == (200, 4.0)


def test_tokens_are_bytes_where_no_tokenizer_is_among_the_parents():
    job, rows = sources().job, objects()
    assert is_of_bytes(job, list(rows.values()))
    weights = dict(rows[job["results"][0]])
    weights["parents"] = [*weights["parents"], TOKENIZER]
    with_one = {**rows, weights["id"]: weights, TOKENIZER: row(TOKENIZER, "tokenizer", "t", 5)}
    assert not is_of_bytes(job, list(with_one.values()))
    assert not is_of_bytes({**job, "results": []}, list(rows.values()))  # nothing known yet
