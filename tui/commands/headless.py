"""Training without the studio: start a job, look at its history, obey the signals, say what came of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from tui.commands.complaints import complain
from tui.commands.json_report import JsonReport
from tui.commands.reports import LineReport, LiveReport, Report

if TYPE_CHECKING:
    from engine.errors import StudioError
    from engine.job import Job
    from engine.recipe import Recipe
    from engine.runs.directory import RunDirectory

_LOOK_S = 0.1
_SAME_SIGNAL_S = 0.3
_DONE, _FAILED, _REFUSED, _STOPPED = 0, 1, 2, 130  # exit status
_SHOW_CURSOR = b"\x1b[?25h\r\n"


def train(recipe: Recipe, name: str, root: Path, report: Report, *, where: str, resume_with: str) -> int:
    """Train `recipe` as a new run under `root`; the exit status.

    `where` names the recipe in complaints about it; `resume_with` is the command that resumes a run, without the run's
    name. Raises RunError when no run can be made.
    """

    def create() -> Job:
        from engine.job import Job  # torch takes 1.7 s to import

        return Job.create(recipe, root, name)

    return _run(recipe, create, report, where, resume_with)


def resume(directory: RunDirectory, report: Report, *, resume_with: str) -> int:
    """Go on with a run; the exit status. Raises RunError when it can't be resumed."""

    def create() -> Job:
        from engine.job import Job  # torch takes 1.7 s to import

        return Job.resumed(directory)

    return _run(directory.recipe(), create, report, directory.name, resume_with)


def report_for(as_json: bool) -> Report:
    """JSON where it is asked for, a live display on a terminal that can show one, else plain lines."""
    if as_json:
        return JsonReport()
    live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return LiveReport() if live else LineReport()


class Signals:
    """SIGINT, SIGTERM and SIGHUP as `status`, the exit status asked for; a second SIGINT ends the process at once.

    To be entered in the main thread. A first signal only sets the flag.
    """

    def __init__(self) -> None:
        self.status = 0
        self._since = 0.0
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.status:
            self.status, self._since = 128 + number, now
        # Wrappers such as `uv run` pass on the SIGINT that the terminal has sent to us too: that is no second one.
        elif number == signal.SIGINT and now - self._since > _SAME_SIGNAL_S:
            if os.isatty(1):
                os.write(1, _SHOW_CURSOR)
            os._exit(_STOPPED)


def _run(recipe: Recipe, create: Callable[[], Job], report: Report, where: str, resume_with: str) -> int:
    with Signals() as signals:
        with report:
            problems = _problems(recipe)
            job = None if problems or signals.status else create()
            status = _watch(job, report, signals, resume_with) if job else signals.status
        for problem in problems:
            complain(f"{where}: {problem}")
        if job and job.history.error:
            complain(job.history.error)
        return _REFUSED if problems else status


def _problems(recipe: Recipe) -> Sequence[StudioError]:
    from engine.check import check  # torch takes 1.7 s to import

    return check(recipe).problems


def _watch(job: Job, report: Report, signals: Signals, resume_with: str) -> int:
    """See the job to its end, looking at its history on a clock of our own; the exit status."""
    try:
        report.begin(job)
        _start_deaf(job)
        while job.alive:
            job.join(_LOOK_S)
            if signals.status and not job.control.stopping:
                job.control.stop()
                report.stopping()
            report.look(job.history)
        report.end(job, f"{resume_with} {job.directory.name}" if _resumable(job) else "")
    except OSError as error:  # `| head`, a full disk: nobody reads on, so the run is stopped as by Ctrl+C
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains when it flushes stdout in the end
        job.control.stop()
        if job.alive:
            job.join()
        if not isinstance(error, BrokenPipeError):
            complain(f"stdout: {error.strerror}. The run {job.directory.name} was stopped.")
        return _STOPPED
    return {"done": _DONE, "stopped": signals.status}.get(job.history.progress.state, _FAILED)


def _start_deaf(job: Job) -> None:
    """Start the job with SIGINT blocked in its thread, and so in the processes that serve its data.

    A terminal sends Ctrl+C to all of them; a worker that dies of it would turn the stop into a failure.
    """
    if job.recipe.data.num_workers:
        resource_tracker.ensure_running()  # it unblocks SIGINT in the thread that starts it
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        job.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _resumable(job: Job) -> bool:
    from engine.training.checkpoint import Checkpoints  # loads torch, which is there by now

    return job.history.progress.state != "done" and bool(Checkpoints(job.directory.checkpoints).all())
