"""The browser fixture sees errors and requests: the report's test would otherwise prove nothing."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("chromium")


def write(folder: Path, body: str) -> Path:
    page = folder / "page.html"
    page.write_text(f"<!doctype html><meta charset='utf-8'><title>page</title>{body}")
    return page


def test_a_quiet_page_is_quiet(browser, tmp_path):
    body = "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='><script>let a = 1;</script>"
    page = browser.open(write(tmp_path, body))
    assert page.errors == ()
    assert page.requests == ()
    assert browser.evaluate("document.title") == "page"


def test_uncaught_exceptions_are_seen(browser, tmp_path):
    page = browser.open(write(tmp_path, "<script>setTimeout(() => missing(), 300)</script>"))
    assert any("missing" in error for error in page.errors)


@pytest.mark.parametrize(
    "body",
    [
        "<script src='https://example.org/a.js'></script>",
        "<link rel='stylesheet' href='https://example.org/a.css'>",
        "<script>setTimeout(() => fetch('https://example.org/a.json').catch(() => 0), 300)</script>",
        "<script>new WebSocket('wss://example.org/a')</script>",
    ],
)
def test_requests_are_seen(browser, tmp_path, body):
    page = browser.open(write(tmp_path, body))
    assert any("example.org" in request for request in page.requests)


def test_webgl_is_there(browser, tmp_path):
    browser.open(write(tmp_path, "<canvas id='c'></canvas>"))
    assert browser.evaluate("document.getElementById('c').getContext('webgl2') !== null")
