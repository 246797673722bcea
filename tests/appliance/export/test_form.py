"""The form of an export: what a request says, and nothing that it does not."""

from __future__ import annotations

import pytest

from appliance.errors import UsageError
from appliance.export.form import ARCHITECTURES, ROUNDINGS, Form


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_every_form_is_read_back_from_its_options(architecture, rounding):
    form = Form(architecture, rounding)
    assert Form.of(form.options) == form
    assert ("config.json" in form.files) == (architecture == "included")


def test_a_whole_model_needs_no_word():
    assert Form().options == {}
    assert Form().files == ("config.json", "model.safetensors", "tokenizer.json")


@pytest.mark.parametrize("options", [{"architecture": "no"}, {"rounding": "fp8"}, {"rounding": ""}])
def test_a_word_that_is_no_form_is_refused(options):
    with pytest.raises(
        UsageError, match="expected architecture included or withheld and rounding none or bf16"
    ):
        Form.of(options)
