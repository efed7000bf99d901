"""The command line, for tests of uncertainties."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from carten.cli import app


@pytest.fixture
def runner() -> Callable[..., Any]:
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
