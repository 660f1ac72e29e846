"""What is copied ahead arrives whole, in its order, a few at a time, and leaves nothing behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.data.augmentation.augment import Augment
from engine.data.samples import MapDataset, Samples
from engine.data.serving.ahead import DEPTH, Ahead, SideStream, side_stream
from engine.data.serving.batches import Finish
from engine.data.serving.loader import LoaderBatches
from engine.data.serving.workers import Failed
from engine.errors import DataError
from engine.recipe import Part

CPU = torch.device("cpu")


class SlowCopies:
    """Copies that are all zeros until somebody waits for them, as on a GPU they may be. Notes what it is told."""

    def __init__(self, *, forgetful: bool = False) -> None:
        self.told: list[str] = []
        self.waited: list[int] = []
        self._forgetful = forgetful
        self._marks = 0

    def copy(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
        self.told.append("copy")
        return tuple(torch.zeros_like(tensor) for tensor in tensors), tensors

    def await_copy(self, tensors: tuple[Tensor, ...], copied: Any) -> None:
        self.told.append("await")
        for there, here in zip(tensors, copied, strict=True):
            there.copy_(there if self._forgetful else here)

    def mark(self) -> int:
        self._marks += 1
        return self._marks

    def await_mark(self, mark: int) -> None:
        self.waited.append(mark)


def numbered(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    return ((torch.full((2,), number + 1), torch.tensor([number + 1])) for number in range(count))


def values(ahead: Ahead) -> list[int]:
    return [int(inputs[0]) for inputs, _ in ahead]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_every_batch_comes_once_in_its_order_and_whole(count: int) -> None:
    assert values(Ahead(numbered(count), SlowCopies())) == list(range(1, count + 1))


def test_a_copy_that_nobody_waits_for_would_be_seen() -> None:
    assert values(Ahead(numbered(3), SlowCopies(forgetful=True))) == [0, 0, 0]


def test_while_a_batch_is_trained_on_the_next_is_under_way_and_no_more() -> None:
    streams, read = SlowCopies(), []
    ahead = Ahead((read.append(number) or batch for number, batch in enumerate(numbered(9))), streams)
    for number, _ in enumerate(ahead):
        assert len(read) == min(number + DEPTH, 9)
        assert streams.told.count("copy") - streams.told.count("await") == len(read) - number - 1 <= DEPTH - 1


def test_the_host_is_never_more_than_a_few_steps_ahead_of_the_device() -> None:
    streams = SlowCopies()
    for number, _ in enumerate(Ahead(numbered(9), streams)):
        # As batch `number` is given out, as many steps are queued; all but the last few of them are done.
        assert streams.waited == list(range(1, number - DEPTH + 1))


def test_an_error_of_the_source_comes_after_the_batches_that_were_read_before_it() -> None:
    def breaking() -> Iterator[Any]:
        yield from numbered(3)
        raise DataError("sample 3", "is no picture", "Remove it.")

    seen: list[int] = []
    ahead = Ahead(breaking(), SlowCopies())
    with pytest.raises(DataError, match="sample 3"):
        seen.extend(int(inputs[0]) for inputs, _ in ahead)
    assert seen == [1, 2, 3]
    assert next(ahead, None) is None, "it is raised once"


def test_what_a_worker_sends_in_place_of_a_batch_keeps_its_place() -> None:
    failed = Failed(DataError("sample 1", "is no picture", "Remove it."), "")
    first, second = numbered(2)
    assert [batch is failed for batch in Ahead(iter([first, failed, second]), SlowCopies())] == [False, True, False]


def test_closed_it_holds_nothing_reads_nothing_and_no_thread_is_left() -> None:
    read: list[int] = []
    threads = threading.active_count()
    ahead = Ahead((read.append(1) or batch for batch in numbered(9)), SlowCopies())
    first = next(ahead)
    held = [weakref.ref(tensor) for batch, _ in ahead._sent for tensor in batch]
    assert [reference() is None for reference in held] == [False, False]
    ahead.close()
    gc.collect()
    assert [reference() is None for reference in held] == [True, True]
    assert int(first[0][0]) == 1
    assert next(ahead, None) is None
    assert len(read) == DEPTH
    assert threading.active_count() == threads


def test_what_is_copied_ahead_can_be_moved_away_and_goes_on_whole() -> None:
    ahead = Ahead(numbered(4), SlowCopies())
    first = next(ahead)
    ahead.to(CPU)
    assert [int(first[0][0]), *values(ahead)] == [1, 2, 3, 4]
    moved = Ahead(numbered(4), SlowCopies())
    next(moved)
    moved.to(torch.device("meta"))
    assert next(moved)[0].is_meta


def test_only_a_cuda_device_has_a_side_stream() -> None:
    assert side_stream(CPU) is None
    assert side_stream(torch.device("mps")) is None


class TestLoaderBatches:
    FINISH = Finish((), Augment((Part(name="RandomCrop", size=6, padding=2),)))

    def pictures(self) -> Samples:
        generator = torch.Generator().manual_seed(0)
        return Samples(torch.randint(0, 256, (23, 1, 6, 6), dtype=torch.uint8, generator=generator), torch.arange(23))

    def served(self, streams: SlowCopies | None, start: int = 0, workers: int = 0) -> list[Tensor]:
        batches = LoaderBatches(self.pictures(), None, self.FINISH, 5, CPU, seed=0, workers=workers, streams=streams)
        try:
            return [tensor for batch in batches.epoch(1, start) for tensor in (batch.inputs, batch.targets)]
        finally:
            batches.close()

    @pytest.mark.parametrize("start", [0, 10])
    @pytest.mark.parametrize("workers", [0, 1])
    def test_the_batches_are_the_same_to_the_bit(self, start: int, workers: int) -> None:
        pairs = zip(self.served(SlowCopies(), start, workers), self.served(None, start), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)

    def test_they_would_differ_were_a_batch_read_before_it_is_there(self) -> None:
        assert not torch.equal(self.served(SlowCopies(forgetful=True))[1], self.served(None)[1])

    def test_a_sample_that_breaks_is_named_after_the_batches_before_it(self) -> None:
        class Breaks:
            def __len__(self) -> int:
                return 12

            def __getitem__(self, index: int) -> tuple[Tensor, int]:
                if index == 9:
                    raise ValueError("torn")
                return torch.zeros(3), index

        data: MapDataset = Breaks()
        batches = LoaderBatches(data, None, Finish(()), 4, CPU, streams=SlowCopies())
        seen: list[int] = []
        with pytest.raises(DataError, match="sample 9"):
            seen.extend(int(target) for batch in batches.epoch(0) for target in batch.targets)
        assert seen == list(range(8))
        batches.close()

    def test_an_epoch_that_is_left_and_one_that_is_closed_let_go_of_what_was_copied(self) -> None:
        batches = LoaderBatches(self.pictures(), None, Finish(()), 5, CPU, seed=0, streams=SlowCopies())
        next(batches.epoch(0))
        assert len([*batches.epoch(1)]) == 5
        suspended = batches.epoch(2)
        next(suspended)
        assert batches._ahead is not None
        assert len(batches._ahead._sent) == DEPTH - 1
        batches.close()
        assert not batches._ahead._sent


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestOnAGpu:
    CUDA = torch.device("cuda", 0)

    def big(self) -> Samples:
        """16 batches of 64 MiB: copies that take milliseconds."""
        number = torch.arange(16 * 16)
        return Samples(number.float().unsqueeze(1).expand(-1, 1 << 20).contiguous(), number)

    def test_a_training_that_is_busy_sees_each_batch_whole(self) -> None:
        batches = LoaderBatches(self.big(), None, Finish(()), 16, self.CUDA, seed=0)
        weights = torch.randn(4096, 4096, device=self.CUDA)
        found = []
        for batch in batches.epoch(0):
            for _ in range(4):
                weights = weights @ weights / 64  # the stream has more to do than the copy takes
            found.append((batch.inputs == batch.targets.unsqueeze(1)).all())
            del batch  # its memory is free for the next copy as soon as torch believes so
        batches.close()
        assert bool(torch.stack(found).all())

    def test_copies_run_while_the_training_computes(self) -> None:
        streams = SideStream(self.CUDA)
        source = torch.ones(1 << 26).pin_memory()
        torch.cuda._sleep(2_000_000_000)  # about a second of the training's stream
        busy = streams.mark()
        _, copied = streams.copy((source,))
        copied.synchronize()
        assert not busy.query(), "the copy has waited for the training"

    def test_an_epoch_left_in_the_middle_gives_the_memory_back(self) -> None:
        batches = LoaderBatches(self.big(), None, Finish(()), 16, self.CUDA, seed=0)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        suspended = batches.epoch(0)
        batch = next(suspended)
        assert torch.cuda.memory_allocated() > before
        batches.to(CPU)
        batches.close()
        del batch, suspended
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == before
