"""Job: one live run in this process. A thread trains; whoever started it watches `history` and tells `control`."""

from __future__ import annotations

import gc
import os
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from engine.checkpoints.checkpoint import Checkpoints, Loaded
from engine.checkpoints.manifest import prove
from engine.data.fetching.telling import Fetched, reading_text
from engine.devices.allocator import give_back, memory_kept, one_arena
from engine.devices.device import choose, describe
from engine.devices.monitor import Monitor
from engine.devices.openmp import let_go
from engine.errors import RunError, StudioError, TrainingError
from engine.policies.backends import backends, compile_trouble, nondeterministic, selected
from engine.policies.splitting import is_out_of_memory
from engine.policies.threads import own_threads
from engine.python_file import line_of, loaded_anew, said
from engine.recipe import Recipe, changed_settings
from engine.resuming.branching import measured_otherwise
from engine.runs.directory import RunDirectory, owner_facts
from engine.runs.history import LIVE, History, Progress, State, Summary
from engine.runs.metrics import forget_after
from engine.runs.recorder import Recorder
from engine.training.assemble import Assembled, assemble
from engine.training.control import Control, Stopped
from engine.training.trainer import Trainer


class Job:
    """A run that is alive in this process.

    `history` outlives the training; the model, the data and their memory do not. Nothing that a model or a dataset
    raises, SystemExit included, leaves the thread: the run is marked failed, with its reason, and the traceback goes to
    the run's log.
    """

    def __init__(
        self, recipe: Recipe, directory: RunDirectory, *, resume: bool = False, monitor: Monitor | None = None
    ) -> None:
        self.recipe = recipe
        self.directory = directory
        self.control = Control()
        self.history = directory.history() if resume else History()
        self.history.progress = replace(self.history.progress, state="preparing", text="")
        self._resume = resume
        self._loaded: Loaded | None = None
        self._step, self._from, self._threads, self._plain = 0, "", 0, False
        self._monitor = monitor
        self._thread = threading.Thread(target=self._main, name=f"engine {directory.name}", daemon=True)

    @classmethod
    def create(cls, recipe: Recipe, root: Path, name: str, *, monitor: Monitor | None = None) -> Job:
        """A job for a new run under `root`. Raises RunError, or DeviceError for a device that is not there.

        `monitor` is one that samples the devices already; without it the job starts one for as long as it lives.
        """
        device = describe(choose(recipe.training.device))
        return cls(recipe, RunDirectory.create(root, name, recipe, device), monitor=monitor)

    @classmethod
    def resumed(cls, directory: RunDirectory, *, monitor: Monitor | None = None) -> Job:
        """A job that goes on where a run's newest checkpoint was written; one that never wrote any begins anew.

        Raises RunError or RecipeError.
        """
        status = directory.status()
        if status.state == "done":
            raise RunError(directory.name, "is done", "Train its recipe anew, with more epochs if it needs them.")
        if status.state in LIVE:
            raise RunError(directory.name, f"is being trained by {directory.owner()}", "Stop it there first.")
        return cls(directory.recipe(), directory, resume=True, monitor=monitor)

    @classmethod
    def branched(
        cls,
        directory: RunDirectory,
        checkpoint: str,
        recipe: Recipe,
        root: Path,
        name: str,
        *,
        monitor: Monitor | None = None,
    ) -> Job:
        """A job for a new run under `root` that begins where another wrote `checkpoint`, with a changed recipe.

        `checkpoint` is a name, its unique beginning, `best` or `last`. Raises RunError.
        """
        found = Checkpoints(directory.checkpoints).find(checkpoint)
        prove(found.path)
        device = describe(choose(recipe.training.device))
        ranked = not measured_otherwise(changed_settings(directory.recipe(), recipe))
        branch = RunDirectory.create(
            root,
            name,
            recipe,
            device,
            fill=lambda branch: branch.begin_from(directory, found.path, found.step, ranked=ranked),
        )
        return cls(recipe, branch, resume=True, monitor=monitor)

    @property
    def alive(self) -> bool:
        """Whether the engine thread still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        one_arena()
        let_go()  # of what checking the recipe needed: the training's own threads would not spin beside them
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end."""
        self._thread.join(timeout)

    def _main(self) -> None:
        try:
            with self.directory.claim():
                self._hold(self._monitor or Monitor(interval=2.0, keep=2))
        except BaseException as error:
            self._fail_early(error)

    def _hold(self, monitor: Monitor) -> None:
        """Train with the run's directory locked for this process."""
        recorder = self._open(monitor)
        try:
            if monitor is not self._monitor:
                monitor.start()
            self._train(recorder)
        finally:
            if monitor is not self._monitor:
                monitor.stop()
            recorder.close()
            gc.collect()  # modules hold cycles; without this their memory stays until Python happens to look
            give_back()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()
                if hasattr(torch.accelerator, "empty_host_cache"):  # the newest torch gives pinned memory back too
                    torch.accelerator.empty_host_cache()

    def _open(self, monitor: Monitor) -> Recorder:
        notices: list[str] = []
        if self._resume:
            self._take_newest(notices.append)
        facts = {"state": "preparing", "started": time.time(), **owner_facts()}
        recorder = Recorder(self.history, self.directory, facts, monitor)
        for notice in notices:
            recorder.event(self._step, "trouble", notice)
        return recorder

    def _take_newest(self, say: Callable[[str], None]) -> None:
        """Load the newest checkpoint that is whole, and forget what the run recorded after it."""
        checkpoints, epoch = Checkpoints(self.directory.checkpoints), 0
        if checkpoints.any():
            checkpoint, self._loaded = checkpoints.load_newest(say)
            self._step, epoch, self._from = checkpoint.step, checkpoint.epoch, checkpoint.name
            facts = self.directory.status().facts
            known = facts.get("threads")
            self._threads = known if isinstance(known, int) and 0 < known <= 1024 else 0
            # Runs of before have no such fact, and none of theirs lay channels last on a CPU. A branch begins anew.
            self._plain = facts.get("channels_last", "origin" in facts) is not True
        if self.directory.metrics_file.exists():  # a process may have been killed before it made one
            forget_after(self.directory.metrics_file, self._step if self._loaded else -1)
            fresh = self.directory.history()
            self.history.series, self.history.events = fresh.series, fresh.events
            self.history.spreads = fresh.spreads
        elif self._loaded:
            say(f"{self.directory.metrics_file}: is gone. The curves begin anew at step {self._step}.")
        self.history.progress = Progress(epochs=self.recipe.training.epochs, epoch=epoch)

    def _train(self, recorder: Recorder) -> None:
        recorder.state("preparing")
        assembled: Assembled | None = None
        try:
            device = choose(self.recipe.training.device)
            with selected(device), backends(self.recipe.training, device), own_threads(), loaded_anew():
                assembled = assemble(
                    self.recipe,
                    control=self.control,
                    recorder=recorder,
                    checkpoints=Checkpoints(self.directory.checkpoints, self.recipe.training.keep_checkpoints),
                    progress=lambda what, done, total: self._preparing(recorder, what, done, total),
                    threads=self._threads,
                    plain=self._plain,
                    resumed=self._loaded is not None,
                )
                self._take_up(assembled.trainer, recorder)
                with memory_kept():  # not while data are prepared: that frees gigabytes for good
                    summary = assembled.trainer.run()
            recorder.state("done", ended=time.time())
            recorder.say(_closing_line(summary))
        except Stopped as stopped:
            recorder.state("stopped", "stopped; resume it any time" if stopped.saved else "stopped", ended=time.time())
            recorder.say(_stopped_line(stopped.saved, assembled is not None))
        except BaseException as error:  # a person's module may raise anything, SystemExit included
            reason = explain(error)
            self.history.error = reason
            recorder.detail("".join(traceback.format_exception(error)))
            recorder.say(f"failed: {reason}")
            recorder.state("failed", str(reason), ended=time.time())
            _forget_frames(error)
        finally:
            self._loaded = None  # a training that never came to begin has not taken it up
            if assembled is not None:
                assembled.close()

    def _take_up(self, trainer: Trainer, recorder: Recorder) -> None:
        """Put the trainer where the checkpoint was written, if there is one."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            for note in trainer.restore(loaded):
                recorder.say(note)
            recorder.event(self._step, "resume", f"resumed from {self._from}")
        elif self._resume:
            recorder.event(0, "resume", "no checkpoint had been written: the run begins anew")

    def _preparing(self, recorder: Recorder, what: str, done: int, total: int) -> None:
        if self.control.stopping:
            raise Stopped
        text = reading_text(what, done, total)
        state: State = "downloading" if isinstance(done, Fetched) else "preparing"
        recorder.progress(state=state, text=text, fraction=done / total if total else None)

    def _fail_early(self, error: BaseException) -> None:
        """The run directory itself can't be written."""
        reason = explain(error)
        if isinstance(error, (OSError, sqlite3.Error)):
            what = f"can't be written: {error}"
            reason = RunError(str(self.directory.path), what, "Choose another folder with --runs or TORCH_TUI_RUNS.")
        _forget_frames(error)
        self._loaded = None
        self.history.error = reason
        self.history.say(f"failed: {reason}")
        self.history.progress = Progress(state="failed", text=str(reason))


def explain(error: BaseException, *, logged: bool = True) -> StudioError:
    """What went wrong, in words that say what to do; `logged` says that a run's log has the traceback."""
    if isinstance(error, StudioError):
        return error
    if is_out_of_memory(error):
        return TrainingError("training", "out of memory", "Lower data.batch_size, or raise training.accumulate.")
    trouble = nondeterministic(error)
    if trouble is not None:
        return TrainingError("training.deterministic", trouble, "Set it to false, or use another layer.")
    trouble = compile_trouble(error)
    if trouble is not None:
        return TrainingError("training.compile", trouble, "Set it to false, or mend what it names.")
    remedy = "The traceback is in the run's log.txt." if logged else "The log.txt of a training has the traceback."
    return TrainingError(_where(error) or "training", said(error), remedy)


def _where(error: BaseException) -> str:
    """`file:line` of the deepest frame in a person's project, else in what is neither ours nor a library's."""
    if line := line_of(error):
        return line
    root = Path(__file__).parents[1]
    ours = tuple(f"{root / name}{os.sep}" for name in ("engine", "tui", "presets", "torch_tui"))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        foreign = any(part in frame.filename for part in ("site-packages", "/lib/python", "<"))
        if not foreign and not frame.filename.startswith(ours):
            return f"{frame.filename}:{frame.lineno}"
    return ""


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks: their frames hold the model and its tensors, and the reason is kept."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        following.__traceback__ = None
        following = following.__context__ if following.__cause__ is None else following.__cause__


def _stopped_line(saved: bool, began: bool) -> str:
    if saved:
        return "stopped, with a checkpoint"
    return "stopped, and no checkpoint could be written" if began else "stopped before the first step"


def _closing_line(summary: Summary) -> str:
    tested = " · ".join(f"test {name} {value:.4g}" for name, value in summary.test.items())
    return f"done in {summary.seconds:.1f} s  {tested}"
