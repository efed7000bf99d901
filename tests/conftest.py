"""Options and fixtures every test can use.

`pytest --require=cpp,chromium` makes the suite fail at once when one of these parts is missing; without it the tests
marked `needs("cpp")` are skipped where there is none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from parts import PARTS, missing

SLOW = Path(__file__).parent / "slow.txt"
"""Beginnings of the names of tests that take longer than a few seconds."""

if TYPE_CHECKING:
    from browser import Browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="PARTS",
        help=f"comma-separated parts that must be there, of {', '.join(PARTS)}: fail instead of skipping",
    )


def pytest_configure(config: pytest.Config) -> None:
    for part in filter(None, config.getoption("--require").split(",")):
        if part not in PARTS:
            raise pytest.UsageError(f"--require={part}: no such part; there are {', '.join(PARTS)}")
        if reason := missing(part):
            raise pytest.UsageError(f"--require={part}: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = tuple(line for line in SLOW.read_text().splitlines() if line and not line.startswith("#"))
    for item in items:
        if item.nodeid.startswith(slow) or item.get_closest_marker("needs"):
            item.add_marker("slow")
        for mark in item.iter_markers("needs"):
            for part in mark.args:
                if reason := missing(part):
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Workers of pytest-xdist share the cores: one thread each, unless a test sets its own number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _default_dtype_is_left_alone() -> Iterator[None]:
    before = torch.get_default_dtype()
    yield
    after = torch.get_default_dtype()
    torch.set_default_dtype(before)
    assert after == before, f"the default dtype of torch was changed from {before} to {after}"


@pytest.fixture(scope="session")
def _chromium() -> Iterator["Browser"]:
    if reason := missing("chromium"):
        pytest.skip(reason)
    from browser import Browser

    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(_chromium: "Browser") -> "Browser":
    """Headless Chromium: `page = browser.open(path)`, then `page.errors` and `page.requests` (see tests/browser.py)."""
    return _chromium
