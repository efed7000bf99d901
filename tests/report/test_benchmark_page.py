"""The page of a benchmark: complete, without requests, readable on a telephone."""

import json
from dataclasses import replace

import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from carten.report.benchmark import benchmark_page
from carten.workflows import battery
from carten.workflows.benchmark import benchmark
from carten.workflows.criteria import CRITERIA, SECTIONS, judged, not_run


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(battery, "STEPS", 20)
        return benchmark(EMT(), [bulk("Al"), molecule("N2")], "<b>EMT</b>")


def test_every_check_is_on_the_page(result):
    page = benchmark_page(result, "2026-01-01")
    for check in result.checks:
        assert check.criterion.name in page
        assert check.criterion.meaning.replace("'", "&#39;") in page
    for section in SECTIONS:
        assert f"<h2>{section}</h2>" in page
    assert "&lt;b&gt;EMT&lt;/b&gt;" in page
    assert "<b>EMT" not in page
    assert page == benchmark_page(result, "2026-01-01")


def test_what_is_red_comes_first_with_advice(result):
    checks = (judged("wall", "Al–Al", 2.0, "at 5 Å"), not_run("heat", "Al", "RuntimeError: no"), *result.checks)
    page = benchmark_page(replace(result, checks=checks))
    attention = page[page.index('id="attention"') : page.index('id="pairs-of-atoms"')]
    assert attention.index("light red") < attention.index("light failed")
    assert CRITERIA["wall"].advice in attention
    assert "at 5 Å" in attention


def test_numbers_are_in_the_files(result, tmp_path):
    result.save(tmp_path)
    table = json.loads((tmp_path / "benchmark.json").read_text())["tables"]["checks"]
    assert len(table["light"]) == len(result.checks)
    assert set(table["light"]) <= {"green", "amber", "red", "skipped"}


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_opens(result, tmp_path, browser, width):
    path = tmp_path / "benchmark.html"
    path.write_text(benchmark_page(result), encoding="utf-8")
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    page = browser.open(path)
    assert (page.errors, page.requests) == ((), ())
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('figure svg').length") == 11
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
