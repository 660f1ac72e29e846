"""What the system asks of a training by signals, with the studio or without."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from engine.job import Job

STOPPED, HUNG_UP = 128 + signal.SIGINT, 128 + signal.SIGHUP  # exit status
_LEAVE_S = 9.5  # after the first signal, so that within ten seconds the process is gone
_SAME_SIGNAL_S = 0.3
_SHOW_CURSOR = b"\x1b[?25h\r\n"


class Signals:
    """SIGINT, SIGTERM and SIGHUP as flags; to be entered in the main thread.

    `status` is the exit status that SIGINT or SIGTERM asked for. A second SIGINT ends the process at once; 9.5 seconds
    after the first signal it ends in any case. SIGHUP says that the terminal is gone: `hung_up` is set, and what is
    written to the terminal from then on goes nowhere.

    `told` is called when one has come. That happens between any two instructions of the main thread, so it may do no
    more than set flags.
    """

    def __init__(self, told: Callable[[], object] = lambda: None) -> None:
        self.status = 0
        self.hung_up = False
        self.told = told
        self.job: Job | None = None
        """What is lost when the process has to end before it is done."""
        self._since = 0.0
        self._process = os.getpid()
        self._terminals: set[int] = set()
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._terminals = {os.fstat(descriptor).st_rdev for descriptor in (0, 1, 2) if os.isatty(descriptor)}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            self._before[number] = signal.signal(number, self._note)
        # The last thing before Python forgets the handlers: without one the timer would end it with another status.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.status:
            return  # the process is about to leave, and must do so in time even if something holds it up
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stops(self, job: Job) -> None:
        """From here on the signals stop `job`, with a checkpoint; one that has come already does so at once."""

        def obey() -> None:
            if self.status:
                job.control.stop()

        self.job, self.told = job, obey
        obey()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes to stdout: that the terminal is gone does not end a training.

        Any other trouble with stdout is raised as the OSError that it is.
        """
        try:
            yield
        except OSError as error:
            if not self.hung_up and not (error.errno == errno.EIO and self._terminals):
                raise
            self._hang_up()
            _silence([1])  # it may be a pipe whose reader went with the terminal

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a data worker, forked from this process: what is asked for is not asked of it
        now = time.monotonic()
        if number == signal.SIGHUP:
            self._hang_up()
        elif number == signal.SIGALRM:
            self._leave(_lost(self.job))
        elif not self.status:
            self.status, self._since = 128 + number, now
            signal.setitimer(signal.ITIMER_REAL, _LEAVE_S)
        # Wrappers such as `uv run` pass on the SIGINT that the terminal has sent to us too: that is no second one.
        elif number == signal.SIGINT and now - self._since > _SAME_SIGNAL_S:
            self._leave("")
        self.told()

    def _hang_up(self) -> None:
        self.hung_up = True
        _silence(descriptor for descriptor in _descriptors() if _device(descriptor) in self._terminals)

    def _leave(self, words: str) -> NoReturn:
        """End the process without waiting for anything, a terminal that takes no more output included."""
        with contextlib.suppress(OSError):
            if os.isatty(1) and _writable(1):
                os.write(1, _SHOW_CURSOR)
            if words and _writable(2):
                os.write(2, f"error: {words}\n".encode())
        os._exit(self.status)


def _lost(job: Job | None) -> str:
    """What goes with a process that ends now; empty if nothing does."""
    if job is None or not job.alive:
        return ""
    from engine.checkpoints.checkpoint import Checkpoints  # loads torch, which is there by now

    kept = Checkpoints(job.directory.checkpoints).all()
    last = f"the last one is {kept[-1].name}" if kept else "there is none"
    return f"{job.directory.name}: no checkpoint could be written in time; {last}."


def _descriptors() -> set[int]:
    """All that may lead to the terminal: the studio moves its own out of the way of what others print."""
    found = {0, 1, 2}
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            found.add(stream.fileno())  # type: ignore[union-attr]
    return found


def _device(descriptor: int) -> int | None:
    """The number of the character device behind it, which is still known when the device has gone."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_rdev if stat.S_ISCHR(found.st_mode) else None


def _silence(descriptors: Iterator[int] | list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor, inheritable=descriptor <= 2)
    os.close(nowhere)


def _writable(descriptor: int) -> bool:
    return bool(select.select([], [descriptor], [], 0)[1])
