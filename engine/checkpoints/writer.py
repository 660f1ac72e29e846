"""Checkpoints written by a thread of their own, so that the training only pauses for a copy in memory."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.checkpoints.checkpoint import Checkpoint, Checkpoints
from engine.checkpoints.keepable import Unkeepable
from engine.checkpoints.manifest import rank, ranked
from engine.checkpoints.snapshot import AT_ONCE, Snapshot, Snapshots
from engine.errors import StudioError, TrainingError, words

_CLOSE_S = 600.0
"""How long `close` waits for a disk that neither writes nor fails, as a network's may, before it is given up."""


@dataclass(eq=False)
class _Waiting:
    """A snapshot on its way to the disk. `failed`: tried, and kept until it is to be tried again."""

    epoch: int
    step: int
    score: float | None
    snapshot: Snapshot
    replace: bool
    ready: Callable[[], None] | None
    failed: bool = False
    loss: float | None = None

    @property
    def position(self) -> tuple[int, int]:
        return self.epoch, self.step

    @property
    def rank(self) -> tuple[float, float] | None:
        return rank(self.score, self.loss)


class CheckpointWriter:
    """Takes snapshots in the caller's thread and writes them in another, in the order in which they came.

    When the disk can't follow, older snapshots give way to newer ones: what waits is the newest and, where that is
    another one, the one with the best score so far. One whose writing failed is kept, and tried again at `retry`, at
    the next `save` and at `close`. All methods are the training thread's.
    """

    def __init__(self, checkpoints: Checkpoints, before: Callable[[], Callable[[], None]] | None = None) -> None:
        """`before` is called as a snapshot is taken; what it returns is called before that checkpoint has its name."""
        self.last: Checkpoint | None = None
        """The checkpoint that was written last."""
        self.trouble: TrainingError | None = None
        """Why the last write failed, with the traceback of what was not foreseen as its note; None once one worked."""
        self._checkpoints = checkpoints
        self._before = before
        self._snapshots = Snapshots()
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        """In the order in which they were taken, the one that is being written among them."""
        self._writing: _Waiting | None = None
        self._best: _Waiting | None = None
        """The one with the best score of all, unless that is on disk already."""
        self._best_rank: tuple[float, float] | None = None
        self._proven = self._closing = False
        self._thread: threading.Thread | None = None

    def save(
        self,
        epoch: int,
        step: int,
        files: Mapping[str, Mapping[str, Any]],
        state: Mapping[str, Any],
        score: float | None = None,
        *,
        loss: float | None = None,
        replace: bool = False,
    ) -> None:
        """Take a snapshot of `files` ("model" and perhaps "average" → name → tensor) and `state`, to be written soon.

        A position that is on its way already is not taken again, unless it is to `replace` what was taken. See
        Checkpoints.write for the rest.
        """
        assert not self._closing, "the writer is closed"
        score, loss = ranked(score, loss)
        if self._thread is None:
            self._start()
        with self._changed:
            for waiting in self._waiting:
                waiting.failed = False
            self._changed.notify_all()
            same = [waiting for waiting in self._waiting if waiting.position == (epoch, step)]
            if not replace and any(score is None or waiting.score is not None for waiting in same):
                return
            if len(self._waiting) == AT_ONCE:  # one is written, one is the best, the third gives its buffers
                self._drop(next(filter(self._can_go, self._waiting)))
        ready = self._before() if self._before else None
        fresh = _Waiting(epoch, step, score, self._snapshots.take(files, state), replace, ready, loss=loss)
        with self._changed:
            self._hand_over(fresh)
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, at most `timeout` seconds, until everything is written or has failed; whether that is so."""
        with self._changed:
            return self._changed.wait_for(self._idle, timeout)

    def retry(self) -> None:
        """Try again what failed."""
        with self._changed:
            for waiting in self._waiting:
                waiting.failed = False
            self._changed.notify_all()

    def forget_after(self, epoch: int, step: int) -> None:
        """Drop what was to be written of later positions: the training has gone back to this one."""
        with self._changed:
            for waiting in [each for each in self._waiting if each.position > (epoch, step)]:
                if waiting is not self._writing:
                    self._drop(waiting)
            self._best, self._best_rank = None, self._rank_on_disk()

    def best(self) -> Checkpoint | None:
        """The best checkpoint, once everything is written or has failed."""
        self.wait()
        return self._checkpoints.best()

    def close(self, timeout: float = _CLOSE_S) -> bool:
        """Write what is there, what failed once more, and end the thread; whether all of it is on disk.

        What fails again is dropped, and so is all after `timeout` seconds of a disk that does not answer.
        """
        self.retry()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            lost = bool(self._waiting)
            for waiting in [waiting for waiting in self._waiting if waiting is not self._writing]:
                self._drop(waiting)
        self._snapshots.close()
        return not lost and self.trouble is None

    def _start(self) -> None:
        self._best_rank = self._rank_on_disk()
        self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
        self._thread.start()

    def _rank_on_disk(self) -> tuple[float, float] | None:
        best = self._checkpoints.best()
        return rank(best.score, best.loss) if best else None

    def _idle(self) -> bool:
        return self._writing is None and all(waiting.failed for waiting in self._waiting)

    def _hand_over(self, fresh: _Waiting) -> None:
        """Put a snapshot in the queue, in place of one of the same position and of older ones."""
        for same in [waiting for waiting in self._waiting if waiting.position == fresh.position]:
            fresh.replace = True
            if fresh.score is None:
                fresh.score, fresh.loss = same.score, same.loss
                self._best = fresh if same is self._best else self._best
            if same is not self._writing:
                self._drop(same)
        if fresh.rank is not None and (self._best_rank is None or fresh.rank > self._best_rank):
            self._best, self._best_rank = fresh, fresh.rank
        self._waiting.append(fresh)
        self._thin()

    def _thin(self) -> None:
        for waiting in filter(self._can_go, self._waiting[:-1]):
            self._drop(waiting)

    def _can_go(self, waiting: _Waiting) -> bool:
        return waiting is not self._best and waiting is not self._writing

    def _drop(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        waiting.snapshot.release()

    def _write_all(self) -> None:
        """The thread: ends after `close`, when nothing is left that was not tried."""
        while (waiting := self._next()) is not None:
            try:
                written: Checkpoint | None = self._checkpoints.write(
                    waiting.snapshot,
                    *waiting.position,
                    waiting.score,
                    loss=waiting.loss,
                    replace=waiting.replace,
                    prove=not self._proven,
                    ready=waiting.ready,
                )
                trouble = None
            except BaseException as error:  # a person's module may raise anything while its state is written
                written, trouble = None, self._understood(error)
            self._conclude(waiting, written, trouble)

    def _next(self) -> _Waiting | None:
        with self._changed:
            while True:
                for waiting in self._waiting:
                    if not waiting.failed:
                        self._writing = waiting
                        return waiting
                if self._closing:
                    return None
                self._changed.wait()

    def _conclude(self, tried: _Waiting, written: Checkpoint | None, trouble: TrainingError | None) -> None:
        with self._changed:
            self._writing = None
            self.trouble = trouble
            superseded = any(other.position == tried.position for other in self._waiting if other is not tried)
            if written is None and not superseded and not isinstance(trouble, Unkeepable):
                tried.failed = True
                self._thin()
            else:
                self._drop(tried)
                self._best = None if tried is self._best else self._best
            if written is not None:
                self._proven = True
                self.last = written
            self._changed.notify_all()

    def _understood(self, error: BaseException) -> TrainingError:
        """The error without the frames that led to it: they hold what was to be written."""
        if isinstance(error, TrainingError):
            return type(error)(error.where, error.what, error.remedy)
        if isinstance(error, StudioError):
            return TrainingError(error.where, error.what, error.remedy)
        what = f"a checkpoint can't be written: {type(error).__name__}: {words(error)}"
        understood = TrainingError(str(self._checkpoints.folder), what, "The traceback is in the run's log.txt.")
        understood.add_note("".join(traceback.format_exception(error)))
        return understood
