"""Open local pages in headless Chromium and see what they complain about and what they ask the network for."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver

from parts import BROWSERS, on_path

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1400,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "devtools:", "chrome-extension:")


@dataclass(frozen=True)
class Page:
    """What happened while a page was open.

    `errors` are console messages of level SEVERE (uncaught exceptions included), `requests` the addresses asked for
    that are not part of this machine's files.
    """

    errors: tuple[str, ...]
    requests: tuple[str, ...]


class Browser:
    """Headless Chromium without a network; `driver` is selenium's, for clicks and scripts."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = on_path(*BROWSERS)
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=on_path("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(120)

    def open(self, path: Path, settle: float = 1.0) -> Page:
        """Load a file, wait until `settle` seconds pass without news, and return what was logged."""
        self.logged()
        self.driver.get(path.resolve().as_uri())
        return self.logged(settle)

    def logged(self, settle: float = 0.0) -> Page:
        """What was logged since the last call, waiting until `settle` seconds pass without news."""
        errors: list[str] = []
        requests: list[str] = []
        quiet_since = time.monotonic()
        while True:
            console = self.driver.get_log("browser")
            network = self.driver.get_log("performance")
            errors += [entry["message"] for entry in console if entry["level"] == "SEVERE"]
            requests += [url for entry in network if (url := _requested(entry)) and not url.startswith(LOCAL)]
            if console or network:
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= settle:
                return Page(tuple(errors), tuple(requests))
            time.sleep(0.1)

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression on the page."""
        return self.driver.execute_script(f"return ({script});")

    def wait_for(self, script: str, seconds: float = 30.0) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(script):
            if time.monotonic() > end:
                raise TimeoutError(f"{script} did not become true within {seconds} s")
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        """Save what the window shows as PNG."""
        if not self.driver.save_screenshot(str(path)):
            raise OSError(f"no screenshot could be written to {path}")

    def close(self) -> None:
        self.driver.quit()


def _requested(entry: dict[str, str]) -> str | None:
    message = json.loads(entry["message"])["message"]
    if message["method"] == "Network.requestWillBeSent":
        return str(message["params"]["request"]["url"])
    if message["method"] == "Network.webSocketCreated":
        return str(message["params"]["url"])
    return None
