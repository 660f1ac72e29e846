"""Training without the studio: start a job, look at its history, obey the signals, say what came of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.fetching.telling import reading_text
from engine.start import importing
from tui.commands.complaints import complain
from tui.commands.json_report import JsonReport
from tui.commands.reports import LineReport, LiveReport, Report
from tui.commands.signals import STOPPED, Signals

if TYPE_CHECKING:
    from engine.errors import StudioError
    from engine.job import Job
    from engine.recipe import Recipe
    from engine.runs.directory import RunDirectory

_LOOK_S = 0.1
_DONE, _FAILED, _REFUSED = 0, 1, 2  # exit status
_DEAF = {signal.SIGINT, signal.SIGHUP}


def train(
    recipe: Recipe, name: str, root: Path, report: Report, *, where: str, resume_with: str, profile: bool = False
) -> int:
    """Train `recipe` as a new run under `root`; the exit status.

    `where` names the recipe in complaints about it; `resume_with` is the command that resumes a run, without the run's
    name; `profile` asks for a profile of the first steps. Raises RunError when no run can be made.
    """

    def create() -> Job:
        with importing():
            from engine.job import Job  # torch takes 1.7 s to import

        job = Job.create(recipe, root, name)
        if profile:
            job.control.profile()
        return job

    return _run(recipe, create, report, where, resume_with)


def resume(directory: RunDirectory, report: Report, *, resume_with: str) -> int:
    """Go on with a run; the exit status. Raises RunError when it can't be resumed."""

    def create() -> Job:
        with importing():
            from engine.job import Job  # torch takes 1.7 s to import

        return Job.resumed(directory)

    return _run(directory.recipe(), create, report, directory.name, resume_with)


def branch(
    origin: RunDirectory, checkpoint: str, recipe: Recipe, name: str, root: Path, report: Report, *, resume_with: str
) -> int:
    """Train `recipe` as a new run under `root` that begins at a checkpoint of `origin`; the exit status.

    `checkpoint` is a name, its unique beginning, `best` or `last`. Raises RunError when no run can be made of it.
    """

    def create() -> Job:
        with importing():
            from engine.job import Job  # torch takes 1.7 s to import

        return Job.branched(origin, checkpoint, recipe, root, name)

    return _run(recipe, create, report, origin.name, resume_with)


def report_for(as_json: bool) -> Report:
    """JSON where it is asked for, a live display on a terminal that can show one, else plain lines."""
    if as_json:
        return JsonReport()
    live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return LiveReport() if live else LineReport()


def _run(recipe: Recipe, create: Callable[[], Job], report: Report, where: str, resume_with: str) -> int:
    with Signals() as signals:
        with report:
            problems = _problems(recipe, report, signals)
            job = None if problems or signals.status else create()
            status = _watch(job, report, signals, resume_with) if job else signals.status
        for problem in problems:
            complain(f"{where}: {problem}")
        if job and job.history.error:
            complain(job.history.error)
        return _REFUSED if problems else status


def _problems(recipe: Recipe, report: Report, signals: Signals) -> Sequence[StudioError]:
    """What hinders a training; nothing when a signal has come meanwhile."""
    from engine.check import check  # torch takes 1.7 s to import
    from engine.training.control import Stopped

    def reading(what: str, done: int, total: int) -> None:
        if signals.status:
            raise Stopped
        report.reading(reading_text(what, done, total))

    try:
        return check(recipe, reading=reading).hindrances
    except Stopped:
        return ()


def _watch(job: Job, report: Report, signals: Signals, resume_with: str) -> int:
    """See the job to its end, looking at its history on a clock of our own; the exit status."""
    stopping = False
    try:
        with signals.writing():
            report.begin(job)
        _start_deaf(job)
        signals.stops(job)
        while job.alive:
            job.join(_LOOK_S)
            with signals.writing():
                if signals.status and not stopping:
                    stopping = True
                    report.stopping()
                report.look(job.history)
        with signals.writing():
            report.end(job, f"{resume_with} {job.directory.name}" if _resumable(job) else "")
    except OSError as error:  # `| head`, a full disk: nobody reads on, so the run is stopped as by Ctrl+C
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains when it flushes stdout in the end
        job.control.stop()
        if job.alive:
            job.join()
        if not isinstance(error, BrokenPipeError):
            complain(f"stdout: {error.strerror}. The run {job.directory.name} was stopped.")
        return STOPPED
    return {"done": _DONE, "stopped": signals.status}.get(job.history.progress.state, _FAILED)


def _start_deaf(job: Job) -> None:
    """Start the job with SIGINT and SIGHUP blocked in its thread, for this one to hear.

    Not SIGTERM: it would be blocked in what a dataset starts there, and `multiprocessing.Pool` waits for ever for a
    process that can't be ended by it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF)
    try:
        job.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _DEAF)


def _resumable(job: Job) -> bool:
    from engine.checkpoints.checkpoint import Checkpoints  # loads torch, which is there by now

    return job.history.progress.state != "done" and bool(Checkpoints(job.directory.checkpoints).all())
