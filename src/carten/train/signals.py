"""Signals that end a run: the step is finished, a checkpoint is written, the exit status is 128 + the signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, what batch systems and container runtimes send, and what SLURM's ``--signal`` usually names."""
IMPATIENCE = 1.0
"""Seconds after which another Ctrl-C counts as a new request: some programs deliver one signal twice."""
WORKER_GRACE = 60
"""Seconds after which a worker process obeys SIGTERM even if the run has not ended it."""


class Interrupted(SystemExit):
    """A run was stopped by a signal. Uncaught, it ends the process with the status 128 + signal, as shells do.

    Attributes:
        signal: what was received.
        announced: whether the message on what was kept has been printed.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.announced = False


class Interruption:
    """What a signal does: it stops the run at once, or, while ``postponed``, as soon as the run calls :meth:`check`.

    Attributes:
        postponed: whether there is something to finish first.
        received: the signal to obey.
    """

    def __init__(self) -> None:
        self.postponed = False
        self.received: int | None = None
        self._since = 0.0
        self._process = os.getpid()

    def install(self) -> None:
        """Handle the signals from here on; only the main thread of a process can."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def check(self) -> None:
        """Stop the run where a signal has been received.

        Raises:
            Interrupted: it has.
        """
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that prepares batches: the run ends it
            if number == signal.SIGTERM:
                signal.alarm(WORKER_GRACE)
            return
        repeated = self.received is not None and time.monotonic() - self._since > IMPATIENCE
        if self.received is None:
            self.received, self._since = number, time.monotonic()
        if not self.postponed or (repeated and number == signal.SIGINT):
            raise Interrupted(self.received)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Handle the signals as :class:`Interruption` does; afterwards as before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interruption = Interruption()
    interruption.install()
    try:
        yield interruption
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
