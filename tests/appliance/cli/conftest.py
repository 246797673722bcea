"""The command line against a fake daemon."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from appliance.cli.root import appliance
from tests.appliance.cli.fake_daemon import (
    FakeDaemon,
)


@pytest.fixture
def daemon(short_home):
    fake = FakeDaemon(short_home)
    yield fake
    fake.close()


@pytest.fixture
def run(short_home):
    def invoke(*words, **options):
        return CliRunner().invoke(appliance, ["--home", str(short_home), *words], **options)

    return invoke
