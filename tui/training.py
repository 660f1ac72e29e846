"""What the studio trains: the one job, the monitor, and the way to the engine once torch is loaded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from engine.devices.monitor import Monitor
from engine.errors import DataError, StudioError, first_line
from engine.recipe import Recipe
from engine.runs.directory import RunDirectory
from engine.runs.history import LIVE, History

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.check import Checked
    from engine.data.preview import Preview
    from engine.job import Job


class Desk:
    """Holds the job and its history; everything on it may be called from the screen's thread.

    Nothing here loads torch before `load` is called, which the studio does behind its first frame.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=1000)
        """Lines from elsewhere: libraries writing to the terminal, the monitor. Any thread may append."""
        self.monitor = Monitor(notify=self.lines.append)
        self.history: History | None = None
        self.name = ""
        self.download = ""
        """How far the download of a dataset for its preview is; empty while there is none."""
        self._closed = False
        self._job: Job | None = None
        self._directory: RunDirectory | None = None
        self._read = 0
        self._was_live = False

    def load(self) -> None:
        """Import torch and everything that needs it."""
        began = time.monotonic()
        import engine.check
        import engine.data.preview
        import engine.job  # noqa: F401

        self.lines.append(f"torch {version('torch')} is loaded ({time.monotonic() - began:.1f} s)")

    def entries(self, kind: str) -> Mapping[str, Entry]:
        """The catalog of layers, losses, optimizers or schedulers."""
        from engine import catalog

        kinds = {
            "layer": catalog.layers,
            "loss": catalog.losses,
            "optimizer": catalog.optimizers,
            "scheduler": catalog.schedulers,
        }
        return kinds[kind]()

    def check(self, recipe: Recipe) -> Checked:
        """Everything that is known of a recipe before a step is run."""
        from engine.check import check

        return check(recipe, aside=self.live)

    def preview(self, recipe: Recipe) -> Preview:
        """Load a recipe's data and look at it. Raises StudioError."""
        from engine.data.preview import preview

        def progress(what: str, done: int, total: int) -> None:
            if self._closed:
                raise DataError("data", "the download was cancelled")
            self.download = (
                f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{what}: {done / 1e6:.1f} MB"
            )

        try:
            return preview(recipe, progress)
        except StudioError:
            raise
        except BaseException as error:  # a person's own dataset may raise anything, SystemExit included
            raise DataError("data", f"{type(error).__name__}: {first_line(error)}", "Mend the dataset.") from error
        finally:
            self.download = ""

    def start(self, recipe: Recipe, root: Path, name: str) -> None:
        """Train a recipe in a new run. Raises RunError."""
        from engine.job import Job

        self.join()
        self._take(Job.create(recipe, root, name, monitor=self.monitor), name)

    def resume(self, directory: RunDirectory) -> None:
        """Go on with a run. Raises RunError or RecipeError."""
        from engine.job import Job

        self.join()
        self._take(Job.resumed(directory, monitor=self.monitor), directory.name)

    def show(self, directory: RunDirectory) -> None:
        """Show a run that is not training here. Raises RunError."""
        history = directory.history()
        self._job, self._directory, self.history, self.name = None, directory, history, directory.name
        self._read = 0

    @property
    def live(self) -> bool:
        """Whether a run is under way. One that has ended may still be writing out its last rows."""
        return self._job is not None and self._job.alive and self._job.history.progress.state in LIVE

    @property
    def where(self) -> str:
        """The directory of the run that is shown."""
        return str(self._directory.path) if self._directory else ""

    def ended(self) -> bool:
        """True once after a job has ended."""
        before, self._was_live = self._was_live, self.live
        return before and not self._was_live

    def new_lines(self) -> list[str]:
        """The log lines that came since the last call."""
        lines = []
        while self.lines:
            lines.append(self.lines.popleft())
        if self.history is not None:
            fresh, self._read = self.history.lines_since(self._read)
            lines.extend(fresh)
        return lines

    def toggle_pause(self) -> None:
        """Hold the training, or go on."""
        if self._job is not None:
            (self._job.control.resume if self._job.control.paused else self._job.control.pause)()

    def stop(self) -> None:
        """End the training after this step, with a checkpoint."""
        if self._job is not None:
            self._job.control.stop()

    def checkpoint(self) -> None:
        """Write a checkpoint after this step."""
        if self._job is not None:
            self._job.control.checkpoint()

    def set_learning_rate(self, rate: float) -> None:
        """Change the learning rate from the next step on."""
        if self._job is not None:
            self._job.control.set_learning_rate(rate)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the job's end; whether it has come."""
        if self._job is None:
            return True
        self._job.join(timeout)
        return not self._job.alive

    def close(self) -> None:
        """The studio is being left: downloads for a look at a dataset end."""
        self._closed = True

    @property
    def job(self) -> Job | None:
        """The job, alive or not; for what must outlive the studio."""
        return self._job

    def _take(self, job: Job, name: str) -> None:
        self._job, self._directory, self.history, self.name = job, job.directory, job.history, name
        self._read = 0
        self._was_live = True
        job.start()
