"""What DataLoader workers are doing: which sample each one reads, which one died, hangs or met an error."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sysconfig
import threading
import traceback
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess, parent_process
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from engine.durations import Duration
from engine.errors import DataError, RecipeError, TrainingError, first_line
from engine.python_file import line_of

_IDLE, _STARTING = -1, -2
_TICK_S = 1.0
_DEAF = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
_LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
_OURS = Path(__file__).parents[2]
_SAFE_PATH, _FOR_FORKSERVER = "PYTHONSAFEPATH", "torch-tui"  # any text does


def start_forkserver() -> None:
    """Start the process that workers are forked from, unless it runs.

    It imports torch once, and not each of them for seconds. And it must not look for modules in the folder one works
    in, as `python -c` does: a person's `engine.py` may lie there. Where it lies in PYTHONPATH, `torch_tui` finds ours.

    It starts deaf, and so do the workers: a terminal sends SIGINT and SIGHUP to all processes, Slurm and systemd
    SIGTERM, and a worker that dies of it would turn the stop of the training into its failure.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF)
    try:
        resource_tracker.ensure_running()  # it unblocks SIGINT and SIGTERM in the thread that starts it
        signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF)
        _ensure_forkserver()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ensure_forkserver() -> None:
    multiprocessing.set_forkserver_preload(["torch_tui", "engine.data.serving.fetching"])
    if _SAFE_PATH in os.environ:
        forkserver.ensure_running()
        return
    os.environ[_SAFE_PATH] = _FOR_FORKSERVER
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[_SAFE_PATH]


def patience(text: str) -> float:
    """Seconds of a `data.worker_timeout`. Raises RecipeError for one in epochs or steps."""
    duration = Duration.parse(text)
    if duration.unit != "second":
        raise RecipeError("data.worker_timeout", f"'{text}' is not a time", 'Try "5 min".')
    return duration.amount


class Slots:
    """Shared memory in which each worker notes the dataset index it is reading, before it reads it.

    And in which it sees whether that is still wanted: what was asked for in a turn that is over nobody waits for.

    Goes to the workers by pickle; there and here it is the same memory.
    """

    def __init__(self, workers: int) -> None:
        # (workers, 2): the index, and a count that tells one reading from the next of the same sample
        self._rows = torch.tensor([_STARTING, 0]).repeat(workers, 1)
        self._turn = torch.zeros(1, dtype=torch.long)
        for shared in (self._rows, self._turn):
            shared.share_memory_()  # type: ignore[no-untyped-call]

    def __call__(self, worker: int) -> None:
        """A worker has started (`worker_init_fn`)."""
        self._rows[worker, 0] = _IDLE
        if os.environ.get(_SAFE_PATH) == _FOR_FORKSERVER:
            del os.environ[_SAFE_PATH]  # it is not for the Python that a dataset may start
        _outlive_sigterm()
        threading.Thread(target=_end_with_the_training, name="parent", daemon=True).start()

    @property
    def turn(self) -> int:
        """Which turn it is."""
        return int(self._turn)

    def next_turn(self) -> int:
        """End the turn, and begin another. For the process that trains alone."""
        self._turn += 1
        return self.turn

    def note(self, index: int = _IDLE) -> None:
        """This worker reads the sample `index` now, or none. Nothing happens outside a worker."""
        info = get_worker_info()
        if info is not None:
            self._rows[info.id] += torch.tensor([index - int(self._rows[info.id, 0]), 1])

    def now(self) -> Tensor:
        """A copy of the rows: (workers, 2), index and count."""
        return self._rows.clone()

    def doing(self, worker: int) -> str:
        """What a worker was last at, for a sentence."""
        index = int(self._rows[worker, 0])
        known = {_IDLE: "between two batches", _STARTING: "while starting"}
        return known.get(index, f"while reading sample {index}")


def _outlive_sigterm() -> None:
    """Slurm and systemd tell it to every process: the training writes its checkpoint, and ends its workers itself.

    A handler, and the signal not blocked: programs that a dataset starts inherit what is ignored or blocked, and could
    not be ended.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _end_with_the_training() -> None:
    """End this worker when the process that trains is killed.

    Torch's own look-out asks whether the parent has changed, and a forkserver is parent for as long as a worker lives.
    """
    training = parent_process()
    if training is not None:
        training.join()
        os._exit(1)


class Watch:
    """Ends workers that read one sample for longer than `patience_s`, and says what became of dead ones.

    DataLoader's own timeout would not do: it counts a whole batch, so that slow samples look like a hang, and while it
    waits it does not notice that a worker died. A thread looks at the slots instead, and without a timeout torch looks
    for dead workers every five seconds. The thread counts its own ticks, so time in which the computer slept is not
    held against a worker.
    """

    def __init__(self, slots: Slots, patience_s: float) -> None:
        self._slots, self._patience = slots, patience_s
        self.workers: Sequence[BaseProcess] = ()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._hung: tuple[int, int] | None = None  # worker and sample; written by the thread before it kills

    def start(self, owner: object, workers: Sequence[BaseProcess]) -> None:
        """Watch `workers` until `end`, or until `owner` is gone."""
        if self._thread is None:
            self.workers = workers
            self._thread = threading.Thread(
                target=self._look, args=(weakref.ref(owner),), name="data-workers", daemon=True
            )
            self._thread.start()

    def end(self) -> None:
        """Stop watching, and kill what is still alive: the owner has let go of it."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        for worker in self.workers:
            if worker.is_alive():
                worker.kill()
        self.workers = ()

    def explain(self) -> TrainingError | None:
        """Why the workers give nothing any more; None if none of them died."""
        if self._hung is not None:
            number, index = self._hung
            what = f"{self._name(number)} hangs: it has been reading sample {index} for {_span(self._patience)}"
            remedy = "Look at that sample, or raise data.worker_timeout; resume when mended."
            return TrainingError("data", what, remedy)
        for number, worker in enumerate(self.workers):
            if worker.exitcode is not None:
                what = f"{self._name(number)} died {self._slots.doing(number)}"
                remedy = f"{_ending(worker.exitcode)} Try data.num_workers = 0 to see the cause; resume when mended."
                return TrainingError("data", what, remedy)
        return None

    def _name(self, number: int) -> str:
        return f"worker {number} (process {self.workers[number].pid})"

    def _look(self, owner: weakref.ref[object]) -> None:
        tick = min(_TICK_S, self._patience / 4)
        before, still = self._slots.now(), torch.zeros(len(self.workers))
        while not self._ended.wait(tick) and owner() is not None:
            now = self._slots.now()
            same = (now == before).all(1) & (now[:, 0] >= 0)
            still = (still + tick) * same
            before = now
            if (still >= self._patience).any():
                number = int(still.argmax())
                self._hung = number, int(now[number, 0])
                # Only those in a dataset's code: one that is killed while it holds a queue's lock blocks the others.
                for worker, index in zip(self.workers, now[:, 0].tolist(), strict=True):
                    if index >= 0:
                        worker.kill()
                return


class WorkerTraceback(Exception):  # noqa: N818 - it is the cause that stands in a log, never raised by itself
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


@dataclass(frozen=True)
class Failed:
    """An error of a person's dataset on its way from a worker: torch would rebuild the exception and lose its words."""

    error: DataError
    trace: str

    def throw(self) -> None:
        """Raise the error here, with the worker's traceback as its cause."""
        raise self.error from WorkerTraceback(self.trace)


def unreadable(error: BaseException, index: int) -> DataError:
    """The dataset raised `error` for the sample `index`."""
    # StopIteration and its like say nothing; words() then gives the type's name, which stands here already.
    said = first_line(error)
    kind = type(error).__name__
    said = kind if said == kind else f"{kind}: {said}"
    what = f"sample {index} of the dataset can't be read: {persons_line(error)}: {said}"
    return DataError("data", what, "Mend the dataset; the traceback is in the log.")


def persons_line(error: BaseException) -> str:
    """`file:line` of the deepest frame in a person's project, else in what is no library; else of the deepest."""
    if line := line_of(error):
        return line
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_library(Path(frame.filename))]
    frame = (theirs or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _is_library(file: Path) -> bool:
    return str(file).startswith("<") or any(file.is_relative_to(folder) for folder in (*_LIBRARIES, _OURS))


def _ending(status: int) -> str:
    """What an exit status says: `It exited with status 3.`"""
    if status >= 0:
        return f"It exited with status {status}."
    if status == -signal.SIGKILL:
        return "It was killed (SIGKILL), as the system does when memory is short."
    try:
        return f"It was ended by {signal.Signals(-status).name}."
    except ValueError:  # a real-time signal has no name
        return f"It was ended by signal {-status}."


def _span(seconds: float) -> str:
    """`5 minutes`, `1 minute`, `2.5 seconds`."""
    amount, unit = (seconds / 60, "minute") if seconds >= 60 else (seconds, "second")
    return f"{amount:g} {unit}{'' if amount == 1 else 's'}"
