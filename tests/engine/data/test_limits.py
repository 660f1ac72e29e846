"""A few batches an epoch, or one over and over, served like any batches."""

from __future__ import annotations

import pytest
import torch

from engine.data.augmentation.augment import Augment
from engine.data.samples import Samples
from engine.data.serving.batches import Batch, Batches, Finish, TensorBatches
from engine.data.serving.limits import Limited, Repeated
from engine.data.serving.loader import LoaderBatches
from engine.recipe import Part

CPU = torch.device("cpu")
COUNT = 23


def served(kind: str) -> Batches:
    """23 pictures in batches of 5, cropped at random."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (COUNT, 1, 6, 6), dtype=torch.uint8, generator=generator)
    data, finish = Samples(inputs, torch.arange(COUNT)), Finish((), Augment([Part(name="RandomCrop", size=4)]))
    if kind == "tensors":
        return TensorBatches(data, finish, 5, seed=0)
    return LoaderBatches(data, None, finish, 5, CPU, seed=0)


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


both = pytest.mark.parametrize("kind", ["tensors", "loader"])


@both
def test_limited_serves_the_first_batches_of_each_epoch(kind: str) -> None:
    limited = Limited(served(kind), 2)
    assert (limited.steps, limited.samples, limited.batch_size) == (2, 10, 5)
    for epoch in (0, 1):
        whole = list(served(kind).epoch(epoch))
        cut = list(limited.epoch(epoch))
        assert len(cut) == 2
        assert all(same(*pair) for pair in zip(cut, whole, strict=False))


@both
@pytest.mark.parametrize(("start", "left"), [(0, 2), (5, 1), (10, 0)])
def test_limited_goes_on_where_it_was_left(kind: str, start: int, left: int) -> None:
    assert len(list(Limited(served(kind), 2).epoch(3, start))) == left


def test_a_limit_beyond_the_epoch_changes_nothing() -> None:
    limited = Limited(served("tensors"), 9)
    assert (limited.steps, limited.samples) == (5, COUNT)
    assert [len(batch) for batch in limited.epoch(0)] == [5, 5, 5, 5, 3]


@both
def test_limited_counts_what_it_serves(kind: str) -> None:
    limited = Limited(served(kind), 5)
    assert sum(map(len, limited.epoch(0))) == limited.samples


@both
def test_repeated_serves_the_same_batch_every_step_and_epoch(kind: str) -> None:
    batches = served(kind)
    repeated = Repeated(batches, 3)
    assert (repeated.steps, repeated.samples, repeated.batch_size) == (3, 15, 5)
    first = next(iter(batches.epoch(0)))
    assert not same(first, next(iter(batches.epoch(1))))  # so the next line could fail
    given = [*repeated.epoch(0), *repeated.epoch(1)]
    assert len(given) == 6
    assert all(same(batch, first) for batch in given)
    assert len(list(repeated.epoch(7, 10))) == 1


@both
def test_what_a_model_writes_into_a_repeated_batch_is_not_served_again(kind: str) -> None:
    repeated = Repeated(served(kind), 2)
    steps = repeated.epoch(0)
    next(steps).inputs.zero_()
    assert next(steps).inputs.any()


def test_repeated_of_less_than_a_batch_has_that_many_samples() -> None:
    data = Samples(torch.zeros(3, 2), torch.arange(3))
    repeated = Repeated(TensorBatches(data, Finish(()), 64, seed=0), 4)
    assert (repeated.batch_size, repeated.samples) == (3, 12)
    assert sum(map(len, repeated.epoch(0))) == 12


@both
def test_wrappers_know_their_samples_and_make_a_batch_again(kind: str) -> None:
    for batches in (Limited(served(kind), 2), Repeated(served(kind), 2)):
        for step, batch in enumerate(batches.epoch(1)):
            assert batches.indices(1, step * 5) == batch.targets.tolist()
            assert same(batches.peek(1, step * 5), batch)


@both
def test_wrappers_move_and_close_what_they_wrap(kind: str) -> None:
    for wrap in (Limited, Repeated):
        inner = served(kind)
        batches = wrap(inner, 2)
        before = next(iter(batches.epoch(0)))
        batches.to(torch.device("meta"))
        if wrap is Repeated:
            assert next(iter(batches.epoch(0))).inputs.is_meta
        batches.close()
        if isinstance(inner, TensorBatches):
            assert not inner._inputs.numel()
        else:
            assert list(inner.epoch(0)) == []
        assert len(before) == 5
        assert batches.copy_seconds == inner.copy_seconds
