"""What a run says: on the console, and as plain lines in a file of its folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TextIO

from rich.console import Console


class Log:
    """Lines on a console, repeated in a file as soon as the run has one.

    Args:
        console: where lines are shown.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._file: TextIO | None = None
        self._waiting: list[str] = []

    def line(self, text: str) -> None:
        """Show a line as it is."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)
        if self._file is None:
            self._waiting.append(text)
        else:
            self._write([text])

    def note(self, text: str) -> None:
        """A line for the file alone."""
        self._write([text])

    def open(self, path: Path) -> None:
        """Repeat all lines so far, and those that follow, at the end of a file."""
        self._file = path.open("a", encoding="utf-8")
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        self._write([f"# {now}", *self._waiting])
        self._waiting.clear()

    def close(self) -> None:
        """End the file; lines that follow are on the console alone."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, lines: list[str]) -> None:
        if self._file is None:
            return
        try:
            self._file.writelines(f"{line}\n" for line in lines)
            self._file.flush()
        except OSError as error:  # a full disk, say: the run goes on
            self._file = None
            self.line(f"the log file can't be written any more ({error}): the run goes on without")
