"""Batches that another core gathers are those that this one would gather."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.data.samples import Samples
from engine.data.serving import picking
from engine.data.serving.batches import Finish, TensorBatches
from engine.data.serving.picking import Picker, can_pick_ahead

COUNT, SIZE = 1000, 16


@pytest.fixture(params=[True, False], ids=["a core is idle", "none is"], autouse=True)
def idle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(picking, "cores", lambda: torch.get_num_threads() + int(request.param))
    return bool(request.param)


def data(width: int = 4) -> Samples:
    number = torch.arange(COUNT)
    return Samples(number.float().unsqueeze(1).expand(COUNT, width).contiguous(), number)


def pickers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("picking batches")}


def served(start: int = 0, width: int = 4) -> list[list[int]]:
    batches = TensorBatches(data(width), Finish(()), SIZE, seed=3)
    found = []
    for batch in batches.epoch(1, start):
        assert torch.equal(batch.inputs[:, 0].long(), batch.targets)
        assert batch.inputs.data_ptr() % 64 == 0
        assert not batch.inputs._is_view()
        found.append(batch.targets.tolist())
    batches.close()
    return found


@pytest.mark.parametrize("start", [0, 16, 48, 976, 992, COUNT])
def test_every_sample_comes_once_in_the_order_of_the_epoch(start: int) -> None:
    batches = TensorBatches(data(), Finish(()), SIZE, seed=3)
    expected = [batches.indices(1, first) for first in range(start, COUNT, SIZE)]
    assert served(start) == expected


def test_fewer_of_larger_batches_are_gathered_at_once_and_of_large_ones_none_ahead(
    monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    whole, rows = served(), [torch.zeros(COUNT, 4), torch.zeros(COUNT, dtype=torch.long)]
    for batches in (1, 3):
        monkeypatch.setattr(picking, "_MOST_BYTES", batches * SIZE * 24)
        assert can_pick_ahead(rows, SIZE) is idle
        assert served() == whole
    monkeypatch.setattr(picking, "_MOST_BYTES", SIZE * 24 - 1)
    assert not can_pick_ahead(rows, SIZE)
    assert served() == whole


def test_an_epoch_that_is_left_does_not_disturb_the_next_one() -> None:
    whole = served()
    batches = TensorBatches(data(), Finish(()), SIZE, seed=3)
    left = batches.epoch(0)
    for _ in range(5):
        next(left)
    again = batches.epoch(1)
    first = next(again)
    del left
    assert [first.targets.tolist(), *(batch.targets.tolist() for batch in again)] == whole
    batches.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_what_gathers_keeps_no_threads_of_its_own() -> None:
    share = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        picker, wide = Picker(), torch.rand(COUNT, 4096)
        rows = picker.batches([wide], torch.arange(COUNT), SIZE)
        next(rows)
        before = len(list(Path("/proc/self/task").iterdir()))
        assert torch.equal(next(rows)[0], wide[SIZE : 2 * SIZE])
        until = time.monotonic() + 10
        while (now := len(list(Path("/proc/self/task").iterdir()))) > before + 1 and time.monotonic() < until:
            time.sleep(0.01)  # what is ahead is gathered meanwhile
        assert now == before + 1
        picker.close()
    finally:
        torch.set_num_threads(share)


def test_one_batch_needs_no_thread_and_a_second_one_does(idle: bool) -> None:
    before = pickers()
    batches = TensorBatches(data(), Finish(()), SIZE, seed=3)
    batches.peek(0, 32)
    epoch = batches.epoch(0)
    next(epoch)
    assert not pickers() - before  # of earlier tests some may end just now
    next(epoch)
    new = pickers() - before
    assert len(new) == idle
    epoch.close()
    batches.close()
    for thread in new:
        thread.join(5)
        assert not thread.is_alive()


def test_batches_that_would_lie_unevenly_in_memory_are_not_parts_of_one_tensor(idle: bool) -> None:
    assert can_pick_ahead([torch.zeros(100, 4), torch.zeros(100, dtype=torch.long)], 16) is idle
    assert not can_pick_ahead([torch.zeros(100, 3)], 5)
    assert not can_pick_ahead([torch.zeros(100, 4, device="meta")], 16)


def test_a_model_may_write_into_its_inputs() -> None:
    weight = nn.Parameter(torch.full((4,), 2.0))
    batches = TensorBatches(data(), Finish(()), SIZE, seed=3)
    for batch in batches.epoch(0):
        assert torch.equal(batch.inputs[:, 0].long(), batch.targets)  # nobody else's rows were written to
        batch.inputs.mul_(weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.tolist() == [COUNT * (COUNT - 1) / 2] * 4
    batches.close()


def test_what_gathering_raises_is_raised_where_the_batch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: list[Tensor], index: Tensor) -> list[Tensor]:
        if threading.current_thread() is not here:
            raise MemoryError("no room")
        return [tensor.index_select(0, index) for tensor in tensors]

    here = threading.current_thread()
    monkeypatch.setattr(picking, "_gathered", full)
    picker = Picker()
    rows = picker.batches([torch.arange(COUNT)], torch.arange(COUNT), SIZE)
    next(rows)
    with pytest.raises(MemoryError, match="no room"):
        next(rows)
    picker.close()
