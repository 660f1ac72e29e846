"""Who reads the samples of a recipe: the same few processes for training, validation and test, or this thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from engine.data.serving.fetching import Classes, Fetch
from engine.data.serving.loading import Loading
from engine.data.serving.workers import Slots, Watch, start_forkserver
from engine.python_file import Packed

Keys = list[tuple[int, int]]
"""The (epoch, position) of a batch's samples."""


class Readers:
    """A DataLoader that has several parts, of which it reads one at a time: its processes are not doubled.

    They start when the first batch is asked for, are kept from epoch to epoch, and end at `close`, which is for all
    parts. Workers start by forkserver: forking a process with running threads can deadlock the child. One that dies, or
    reads a sample for longer than `patience_s`, ends the epoch with a TrainingError that names it and the sample.
    """

    def __init__(self, loading: Loading, patience_s: float = 300.0) -> None:
        self.workers = loading.workers
        self._parts = _Parts()
        self._slots = Slots(self.workers)
        self._watch = Watch(self._slots, patience_s) if self.workers else None
        self._sampler, self._generator = _Asked(), torch.Generator()
        if self.workers:
            start_forkserver()
        self._loader: DataLoader[Any] | None = DataLoader(
            self._parts,
            batch_sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            prefetch_factor=loading.prefetch if self.workers else None,
            worker_init_fn=self._slots if self.workers else None,
            multiprocessing_context="forkserver" if self.workers else None,
            pin_memory=loading.pinned,
            # Its own generator: the default one would be drawn from each epoch, and a resumed run would differ.
            generator=self._generator,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing is read any more."""
        return self._loader is None

    @property
    def processes(self) -> Sequence[Any]:
        """The processes that read; none before the first batch is asked for."""
        return self._watch.workers if self._watch else ()

    def part(
        self, data: Any, index: torch.Tensor | None, seed: int, *, skip: bool, classes: Classes | None = None
    ) -> Part:
        """One more part, of which what a sample draws is seeded by `seed`; all are known before the first is read."""
        assert self._loader is not None, "these readers have ended"
        assert self._loader._iterator is None, "the workers have been told what there is to read"
        self._parts.fetches.append(Fetch(data, index, seed, self._slots, skip=skip, classes=classes))
        return Part(self, len(self._parts.fetches) - 1, self._parts.fetches[-1])

    def read(self, part: int, batches: Sequence[Keys], seed: int) -> Iterator[Any]:
        """Raw batches of a part. Another that is read in between takes the workers; this one goes on where it was.

        Where it is broken off, the workers leave what they read ahead for it: the loader would await all of it before
        it goes on to another part.
        """
        done = turn = 0
        try:
            while done < len(batches):
                assert self._loader is not None, "these readers have ended"
                self._generator.manual_seed(seed)
                turn = self._slots.next_turn()
                self._sampler.asked = [(turn, part, keys) for keys in batches[done:]]
                for raw in self._raws(self._loader):
                    done += 1
                    yield raw
                    if self._slots.turn != turn:
                        break
        finally:
            if self._slots.turn == turn:
                self._slots.next_turn()

    def _raws(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """What the loader gives, with the workers' failures in our words."""
        try:
            iterator: Any = iter(loader)
            if self._watch:
                self._watch.start(iterator, iterator._workers)
            yield from iterator
        except Exception as error:  # RuntimeError by torch's look-out, or whatever breaks with a worker's sockets
            explained = self._watch.explain() if self._watch else None
            if explained is None:
                raise
            raise explained from error

    def close(self) -> None:
        """End the processes; nothing is read any more."""
        iterator: Any = None if self._loader is None else self._loader._iterator
        self._loader = None
        self._slots.next_turn()
        if self._watch and iterator is not None:
            iterator._shutdown_workers()  # not left to __del__: the traceback of a failure keeps the iterator alive
            self._watch.end()


class Part:
    """One part of what `readers` read."""

    def __init__(self, readers: Readers, number: int, fetch: Fetch) -> None:
        self.readers, self._number, self._fetch = readers, number, fetch

    def read(self, batches: Sequence[Keys], seed: int) -> Iterator[Any]:
        """Raw batches of these samples: tensors, Partial or Failed. Raises TrainingError and DataError."""
        return self.readers.read(self._number, batches, seed)

    def here(self, keys: Keys) -> Any:
        """A raw batch, read by this thread: what the workers are at is not disturbed."""
        return self._fetch.__getitems__(keys)


class _Parts(Dataset[Any]):
    """What goes to the workers. A dataset of which several parts are read goes there once."""

    def __init__(self) -> None:
        self.fetches: list[Fetch] = []

    def __getitems__(self, asked: tuple[int, int, Keys]) -> Any:
        turn, part, keys = asked
        return self.fetches[part].__getitems__(keys, turn)

    def __getstate__(self) -> Packed:
        # A worker must load a person's file before it can unpickle what comes from there.
        return Packed(self.fetches)

    def __setstate__(self, packed: Packed) -> None:
        self.fetches = packed.value


class _Asked(Sampler[Any]):
    """Batches of (turn, part, keys), made in the main process, so that persistent workers see each epoch's order."""

    def __init__(self) -> None:
        self.asked: Sequence[tuple[int, int, Keys]] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.asked)

    def __len__(self) -> int:
        return len(self.asked)


def _as_it_is(batch: Any) -> Any:
    return batch
