"""What the studio trains: the one job, the monitor, and the way to the engine once torch is loaded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine.data.fetching.telling import reading_text
from engine.devices.monitor import Monitor
from engine.errors import DataError, RunError, StudioError
from engine.insight.facts import HEALTH, Checkup, LayerHealth
from engine.recipe import Recipe, TaskName
from engine.runs.directory import RunDirectory
from engine.runs.history import LIVE, Event, History
from engine.runs.metrics import read_last
from engine.start import importing, load_the_rest
from engine.training.control import Control, Stopped
from tui.draft import Origin
from tui.looking import Errand, Looking, explained

if TYPE_CHECKING:
    from engine.catalog import Entry
    from engine.check import Checked
    from engine.checkpoints.checkpoint import Checkpoint
    from engine.data.samples import Progress
    from engine.data.sources import Source
    from engine.job import Job
    from engine.models.fixes import Fix
    from engine.models.zoo.catalogue import ZooModel, ZooWeights
    from engine.other_data import Adapted
    from engine.trials.batch_finder import BatchSizes, Size
    from engine.trials.lr_finder import RateRange

Trial = TypeVar("Trial")


@dataclass(frozen=True)
class Changes:
    """What a person changes while it trains; None stays as it is."""

    learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None


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
        """How far the reading of a dataset for a trial is; empty while there is none."""
        self.average = ""
        """The kind of averaged weights that the run which is shown has: ema or swa, or none."""
        self.data = Looking()
        """The way to a recipe's data."""
        self._closed = False
        self._trial: Control | None = None
        self._job: Job | None = None
        self._directory: RunDirectory | None = None
        self._read = 0
        self._noted = 0
        self._was_live = False

    def load(self) -> None:
        """Import torch and everything that needs it."""
        began = time.monotonic()
        with importing():
            # 0.14 s that the screen would stand still at the first curve.
            import plotext  # noqa: F401

            load_the_rest()

            import engine.check
            import engine.data.preview
            import engine.job
            import engine.trials.batch_finder
            import engine.trials.lr_finder  # noqa: F401

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

    def model_entry(self, recipe: Recipe) -> Entry:
        """What the person's own function in `[model]` takes. Raises StudioError."""
        from engine.models.build import OFFERED
        from engine.python_file.entry import own_entry

        return own_entry(recipe.model.python, "model.python", OFFERED)

    def reload(self) -> Sequence[Path]:
        """Have the person's own files run and read anew when they are next asked for; the Python that has changed."""
        from engine.data.opened import forget
        from engine.python_file import reload

        forget()
        return reload()

    def zoo(self, task: TaskName) -> Sequence[ZooModel]:
        """The models of torchvision that fit a task. Not for the screen's thread: the first call imports it, 1.5 s."""
        from engine.models.zoo.catalogue import zoo_models

        return zoo_models(task)

    def weights_file(self, weights: ZooWeights) -> Path | None:
        """Where pretrained weights lie, if they have been downloaded."""
        from engine.models.zoo.weights import path_of

        path = path_of(weights)
        return path if path.exists() else None

    def blocks(self, recipe: Recipe) -> Sequence[tuple[str, int]]:
        """The blocks of a recipe's model before its head, each with its parameters. Raises StudioError."""
        from engine.data.prepare import describe
        from engine.models.build import weightless_model
        from engine.models.heads import blocks

        model = weightless_model(recipe, describe(recipe, aside=self.live)[1])
        return [(block.name, sum(each.numel() for each in block.parameters())) for block in blocks(model)]

    def check(self, recipe: Recipe, errand: Errand | None = None) -> Checked:
        """Everything that is known of a recipe before a step is run; a person's files are read for it first."""
        from engine.check import check

        return check(recipe, aside=self.live, reading=(errand or Errand()).progress)

    def fitted(self, recipe: Recipe) -> Fix:
        """What makes the recipe's model fit its data, as far as that goes. Raises StudioError."""
        from engine.check import fit_to_data

        return fit_to_data(recipe, aside=self.live)

    def find_lr(self, recipe: Recipe, control: Control, look: Callable[[float, float], None]) -> RateRange:
        """The learning rate range test. Raises StudioError, or Stopped by `control`."""
        from engine.trials.lr_finder import find_lr

        return self._try(control, lambda: find_lr(recipe, self._progress(), control=control, look=look))

    def find_batch_size(self, recipe: Recipe, control: Control, look: Callable[[Size], None]) -> BatchSizes:
        """How large a batch may be. Raises StudioError, or Stopped by `control`."""
        from engine.trials.batch_finder import find_batch_size

        return self._try(control, lambda: find_batch_size(recipe, self._progress(), control=control, look=look))

    def adapted(
        self, recipe: Recipe, before: Source | None, errand: Errand, *, unknown: bool, keep: bool
    ) -> Adapted | None:
        """What makes the recipe fit data that were just chosen, as `engine.other_data` has it. Raises StudioError."""
        from engine.other_data import adapted

        return explained(
            lambda: adapted(recipe, before, unknown=unknown, keep=keep, aside=self.live, reading=errand.progress)
        )

    @property
    def trying(self) -> bool:
        """Whether steps are taken that no run keeps. They use the random numbers that a training would."""
        return self._trial is not None

    def start(self, recipe: Recipe, root: Path, name: str, origin: Origin | None = None) -> None:
        """Train a recipe in a new run, from a checkpoint of another run if there is an `origin`. Raises RunError."""
        from engine.job import Job

        self.join()
        if origin is None:
            job = Job.create(recipe, root, name, monitor=self.monitor)
        else:
            job = Job.branched(origin.run, origin.checkpoint, recipe, root, name, monitor=self.monitor)
        self._take(job, name)

    def resume(self, directory: RunDirectory) -> None:
        """Go on with a run. Raises RunError or RecipeError."""
        from engine.job import Job

        self.join()
        self._take(Job.resumed(directory, monitor=self.monitor), directory.name)

    def show(self, directory: RunDirectory) -> None:
        """Show a run that is not training here. Raises RunError."""
        history = directory.history()
        history.checkup = last_checkup(directory)
        self._job, self._directory, self.history, self.name = None, directory, history, directory.name
        self._read = 0
        self.average = directory.recipe().training.average.kind

    def checkpoints(self, directory: RunDirectory) -> tuple[Recipe, Sequence[Checkpoint], Checkpoint | None]:
        """A run's recipe, its checkpoints, oldest first, and the best of them. Raises RunError or RecipeError."""
        from engine.checkpoints.checkpoint import Checkpoints

        kept = Checkpoints(directory.checkpoints)
        found = kept.all()
        if not found:
            raise RunError(directory.name, "has no checkpoint that can be read", "Choose another run.")
        return directory.recipe(), found, kept.best()

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
        """End the training, or the steps that are tried, after this one; the training with a checkpoint."""
        for control in (self._trial, self._job.control if self._job else None):
            if control is not None:
                control.stop()

    def checkpoint(self) -> None:
        """Write a checkpoint after this step."""
        if self._job is not None:
            self._job.control.checkpoint()

    def park(self) -> None:
        """Hold the training and give the device's memory back."""
        if self._job is not None:
            self._job.control.park()

    @property
    def parked(self) -> bool:
        """Whether the device's memory was, or is about to be, given back."""
        return self._job is not None and self._job.control.parked

    def profile(self) -> None:
        """Profile the next steps."""
        if self._job is not None:
            self._job.control.profile()

    def weight_decay(self) -> float | None:
        """The weight decay of the live run; None if its optimizer has none."""
        if self._job is None or self.history is None:
            return None
        known = self.history.progress.weight_decay
        if known is not None:
            return known
        chosen = self._job.recipe.optimizer
        entry = self.entries("optimizer").get(chosen.name)
        parameter = entry.parameter("weight_decay") if entry else None
        return float(chosen.parameters.get("weight_decay", parameter.default)) if parameter else None

    def change(self, changes: Changes) -> None:
        """Change what is given from the next step on."""
        if self._job is None:
            return
        control = self._job.control
        if changes.learning_rate is not None:
            control.set_learning_rate(changes.learning_rate)
        if changes.weight_decay is not None:
            control.set_weight_decay(changes.weight_decay)
        if changes.epochs is not None:
            control.set_epochs(changes.epochs)

    def new_events(self) -> list[Event]:
        """The events of the live run that came since the last call."""
        if self._job is None or self.history is None:
            return []
        fresh, self._noted = self.history.events_since(self._noted)
        return fresh

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the job's end; whether it has come."""
        if self._job is None:
            return True
        self._job.join(timeout)
        return not self._job.alive

    def close(self) -> None:
        """The studio is being left: downloads for a look at a dataset end, and so do trials."""
        self._closed = True
        self.data.cancel()
        if self._trial is not None:
            self._trial.stop()

    @property
    def job(self) -> Job | None:
        """The job, alive or not; for what must outlive the studio."""
        return self._job

    def _take(self, job: Job, name: str) -> None:
        self._job, self._directory, self.history, self.name = job, job.directory, job.history, name
        self._read = 0
        self._noted = job.history.noted
        self._was_live = True
        self.average = job.recipe.training.average.kind
        job.start()

    def _try(self, control: Control, trial: Callable[[], Trial]) -> Trial:
        """Run a trial. A person's own model or dataset may raise anything, SystemExit included."""
        self._trial = control
        try:
            return trial()
        except (StudioError, Stopped):
            raise
        except BaseException as error:
            from engine.job import explain

            raise explain(error, logged=False) from error
        finally:
            self._trial = None
            self.download = ""

    def _progress(self) -> Progress:
        """Told how far the reading of a recipe's data is."""

        def tell(what: str, done: int, total: int) -> None:
            if self._closed or (self._trial is not None and self._trial.stopping):
                raise DataError("data", "the reading was cancelled")
            self.download = reading_text(what, done, total)

        return tell


def last_checkup(directory: RunDirectory) -> Checkup | None:
    """How the layers of a run fared when they were looked at last, as it lies on disk. Raises RunError."""
    layers: dict[str, dict[str, float]] = {}
    last = 0
    for name, step, value in read_last(directory.metrics_file, HEALTH):
        layer, _, kind = name.removeprefix(HEALTH).rpartition("/")
        layers.setdefault(layer, {})[kind] = value
        last = max(last, step)
    return Checkup(last, [LayerHealth(name, **kinds) for name, kinds in layers.items()]) if layers else None
