"""Temperature and energy of dynamics as they come: curves in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import plotext
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

QUIET = 60.0  # seconds without a line, at most
PAUSE = 0.5  # seconds between pictures
POINTS = 200  # of a curve
HEIGHT = 9  # lines of a curve


@contextmanager
def dynamics_progress(
    console: Console, title: str, steps: int, replicas: int = 1
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Yield a function to call with lines of the log.

    Args:
        console: where to draw.
        title: of the bar.
        steps: of one run.
        replicas: runs, whose lines say of which they are.
    """
    if console.is_terminal:
        with _curves(console, title, steps, replicas) as show:
            yield show
    else:
        yield _Lines(steps, replicas)


class _Lines:
    """A line at each tenth of the steps, and at least once a minute."""

    def __init__(self, steps: int, replicas: int) -> None:
        self._steps, self._replicas = steps, replicas
        self._tenth, self._shown = 0, time.monotonic()

    def __call__(self, line: Mapping[str, float]) -> None:
        step, replica = int(line["step"]), int(line.get("replica", 0))
        tenth = 10 * (replica * self._steps + step) // self._steps
        if tenth > self._tenth or time.monotonic() - self._shown > QUIET:
            self._tenth, self._shown = max(tenth, self._tenth), time.monotonic()
            name = "" if self._replicas == 1 else f"replica {replica}, "
            typer.echo(f"{name}step {step} of {self._steps}, {line['time_ps']:g} ps")


@contextmanager
def _curves(
    console: Console, title: str, steps: int, replicas: int
) -> Iterator[Callable[[Mapping[str, float]], None]]:
    bar = Progress(*Progress.get_default_columns(), console=console)
    task = bar.add_task(title, total=steps * replicas)
    lines: list[Mapping[str, float]] = []
    reached: dict[float, float] = {}
    shown = 0.0
    with Live(bar, console=console, transient=True, auto_refresh=True) as live:

        def show(line: Mapping[str, float]) -> None:
            nonlocal shown
            lines.append(line)
            reached[line.get("replica", 0)] = line["step"]
            bar.update(task, completed=sum(reached.values()))
            if replicas == 1 and time.monotonic() - shown > PAUSE and console.height > 2 * HEIGHT + 2:
                shown = time.monotonic()
                live.update(Group(curves(lines, min(console.width, 100)), bar))

        yield show


def curves(lines: Sequence[Mapping[str, float]], width: int) -> Text:
    """Temperature and potential energy over time, as characters."""
    every = max(1, len(lines) // POINTS)
    chosen = lines[::every]
    times = [line["time_ps"] for line in chosen]
    pictures = []
    for name, title in (("temperature_K", "temperature (K)"), ("potential_eV", "potential energy (eV)")):
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plot_size(width, HEIGHT)
        plotext.title(title)
        plotext.plot(times, [line[name] for line in chosen], marker="braille")
        pictures.append(plotext.build().rstrip("\n"))
    return Text.from_ansi("\n".join(pictures))
