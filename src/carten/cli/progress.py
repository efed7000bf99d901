"""A progress bar, shown only in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def progress(console: Console, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the total amount done so far; without a total only that is shown."""
    count = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f}"), BarColumn(), TimeElapsedColumn())
    columns = count if total is None else Progress.get_default_columns()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
