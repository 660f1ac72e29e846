"""The order of the batches depends on (seed, epoch) alone, however they are served."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.data.augmentation.augment import Augment
from engine.data.load import load
from engine.data.samples import MapDataset, Samples
from engine.data.serving.batches import Batch, Batches, Finish, TensorBatches
from engine.data.serving.fetching import collate
from engine.data.serving.loader import LoaderBatches
from engine.errors import DataError
from engine.recipe import Data, Part

CPU = torch.device("cpu")
COUNT = 23
PLAIN = Finish(())


def samples(count: int = COUNT) -> Samples:
    """Numbered samples: sample i is i everywhere."""
    number = torch.arange(count)
    return Samples(number.float().unsqueeze(1).expand(count, 3).contiguous(), number)


def pictures(count: int = COUNT) -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator), torch.arange(count))


def tensor_batches(
    data: Samples, size: int = 5, seed: int | None = 0, *, finish: Finish = PLAIN, drop: bool = False
) -> TensorBatches:
    return TensorBatches(data, finish, size, seed=seed, drop_last=drop)


def loader_batches(
    data: Samples | MapDataset,
    size: int = 5,
    seed: int | None = 0,
    *,
    workers: int = 0,
    finish: Finish = PLAIN,
    drop: bool = False,
) -> LoaderBatches:
    return LoaderBatches(data, None, finish, size, CPU, workers=workers, seed=seed, drop_last=drop)


def order(batches: Batches, epoch: int, start: int = 0) -> list[int]:
    return [int(target) for batch in batches.epoch(epoch, start) for target in batch.targets]


def same(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    """Whether two series of batches agree to the last bit."""
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) for a, b in pairs)


SERVERS = [tensor_batches, loader_batches]


@pytest.mark.parametrize("serve", SERVERS)
def test_an_epoch_serves_every_sample_once(serve: type) -> None:
    batches = serve(samples())
    assert sorted(order(batches, 0)) == list(range(COUNT))
    assert [len(batch) for batch in batches.epoch(0)] == [5, 5, 5, 5, 3]
    assert (batches.samples, batches.steps) == (COUNT, 5)


@pytest.mark.parametrize("serve", SERVERS)
def test_inputs_stay_with_their_targets(serve: type) -> None:
    for batch in serve(samples()).epoch(0):
        assert torch.equal(batch.inputs[:, 1].long(), batch.targets)


@pytest.mark.parametrize("serve", SERVERS)
def test_the_order_depends_on_seed_and_epoch_alone(serve: type) -> None:
    first = order(serve(samples()), 3)
    torch.manual_seed(123)
    again = serve(samples())
    order(again, 0)
    assert order(again, 3) == first
    assert order(again, 4) != first
    assert order(serve(samples(), seed=1), 3) != first


@pytest.mark.parametrize("serve", SERVERS)
def test_without_a_seed_the_order_is_kept(serve: type) -> None:
    assert order(serve(samples(), seed=None), 7) == list(range(COUNT))


@pytest.mark.parametrize("serve", SERVERS)
@pytest.mark.parametrize("start", [0, 5, 20, 23])
def test_an_epoch_goes_on_where_it_was_left(serve: type, start: int) -> None:
    finish = Finish((), Augment([Part(name="RandomCrop", size=4)]))
    whole = list(serve(pictures(), finish=finish).epoch(2))
    assert same(list(serve(pictures(), finish=finish).epoch(2, start)), whole[-(-start // 5) :])


@pytest.mark.parametrize("serve", SERVERS)
def test_the_last_smaller_batch_can_be_dropped(serve: type) -> None:
    batches = serve(samples(), drop=True)
    assert [len(batch) for batch in batches.epoch(0)] == [5, 5, 5, 5]
    assert (batches.samples, batches.steps) == (20, 4)


@pytest.mark.parametrize("serve", SERVERS)
def test_the_only_batch_is_never_dropped(serve: type) -> None:
    batches = serve(samples(), size=64, drop=True)
    assert [len(batch) for batch in batches.epoch(0)] == [COUNT]
    assert batches.steps == 1


def test_dropped_samples_are_others_each_epoch() -> None:
    batches = tensor_batches(samples(), drop=True)
    dropped = [set(range(COUNT)) - set(order(batches, epoch)) for epoch in range(3)]
    assert len({frozenset(each) for each in dropped}) == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50))
def test_parts_of_a_batch_are_the_batch(size: int, parts: int) -> None:
    data = samples(size)
    split = Batch(data.inputs, data.targets).split(parts)
    assert len(split) <= parts
    assert torch.equal(torch.cat([each.targets for each in split]), data.targets)
    assert all(len(each) for each in split)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50))
def test_parts_of_a_batch_are_as_many_as_asked_for_and_as_even_as_can_be(size: int, parts: int) -> None:
    data = samples(size)
    sizes = [len(each) for each in Batch(data.inputs, data.targets).split(parts)]
    assert len(sizes) == min(parts, size)
    assert max(sizes) - min(sizes) <= 1


def test_parts_of_a_batch_are_views_of_it() -> None:
    data = samples(7)
    for each in Batch(data.inputs, data.targets).split(3):
        assert each.inputs.untyped_storage().data_ptr() == data.inputs.untyped_storage().data_ptr()
        assert each.targets.untyped_storage().data_ptr() == data.targets.untyped_storage().data_ptr()


def test_batch_norm_takes_seven_samples_in_three_parts() -> None:
    batch = Batch(torch.randn(7, 2), torch.zeros(7))
    norm = torch.nn.BatchNorm1d(2)
    for part in batch.split(3):
        norm(part.inputs)
    with pytest.raises(ValueError, match="more than 1 value"):
        norm(batch.inputs[6:])


def test_bytes_become_floats_between_0_and_1() -> None:
    batch = next(iter(tensor_batches(pictures(), seed=None).epoch(0)))
    assert batch.inputs.dtype == torch.float32
    assert torch.equal(batch.inputs, pictures().inputs[:5] / 255)


def test_targets_are_standardized_where_asked() -> None:
    finish = Finish((), numbers=True, target_mean=torch.tensor([10.0]), target_std=torch.tensor([2.0]))
    data = Samples(torch.zeros(3, 1), torch.tensor([[8.0], [10.0], [14.0]]))
    batch = next(iter(tensor_batches(data, seed=None, finish=finish).epoch(0)))
    assert batch.targets.tolist() == [[-1.0], [0.0], [2.0]]


def test_serving_leaves_the_random_state_alone() -> None:
    finish = Finish((), Augment([Part(name="RandomPerspective")]))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    for batches in (tensor_batches(pictures(), finish=finish), loader_batches(pictures(), finish=finish)):
        list(batches.epoch(0))
    list(loader_batches(Dice()).epoch(0))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


class Dice:
    """A person's dataset that draws from every generator there is."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.tensor([torch.rand(()).item(), random.random(), np.random.rand(), index]), index


def test_a_persons_dataset_draws_for_each_sample_and_epoch() -> None:
    batches = loader_batches(Dice())
    first = {int(row[3]): row[:3].tolist() for batch in batches.epoch(0) for row in batch.inputs}
    second = {int(row[3]): row[:3].tolist() for batch in batches.epoch(1) for row in batch.inputs}
    assert all(first[index][k] != second[index][k] for index in range(COUNT) for k in range(3))
    assert len({tuple(row) for row in first.values()}) == COUNT


def test_a_persons_dataset_draws_the_same_from_the_middle_of_an_epoch() -> None:
    whole = list(loader_batches(Dice()).epoch(4))
    assert same(list(loader_batches(Dice()).epoch(4, 10)), whole[2:])
    assert not same(list(loader_batches(Dice(), seed=1).epoch(4, 10)), whole[2:])


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


@pytest.fixture
def persons_dice(tmp_path: Path) -> MapDataset:
    """The dice, in a file of a person's own."""
    file = tmp_path / "dice.py"
    file.write_text(
        "import random\nimport numpy as np\nimport torch\n\nclass Dice:\n    classes = ['a', 'b']\n"
        "    def __len__(self): return 23\n    def __getitem__(self, index):\n"
        "        return torch.tensor([torch.rand(()).item(), random.random(), np.random.rand(), index]), index\n",
        encoding="utf-8",
    )
    part = load(Data(python=f"{file}:Dice"), "classification").parts["all"]
    assert not isinstance(part, Samples)
    return part


def test_workers_serve_the_same_of_a_persons_dataset(persons_dice: MapDataset) -> None:
    alone = loader_batches(persons_dice)
    batches = loader_batches(persons_dice, workers=2)
    try:
        assert same(list(batches.epoch(0)), list(alone.epoch(0)))
        assert same(list(batches.epoch(1, 10)), list(alone.epoch(1, 10)))
        # An epoch that is broken off leaves nothing behind for the next.
        left: Iterator[Batch] = iter(batches.epoch(2))
        next(left)
        del left
        assert same(list(batches.epoch(3)), list(alone.epoch(3)))
    finally:
        batches.close()


def test_tensors_loader_and_workers_serve_the_same_bits_and_workers_end() -> None:
    nested = {"name": "RandomChoice", "transforms": [{"name": "RandomInvert"}, {"name": "RandomPerspective"}]}
    steps = [Part(name="RandomCrop", size=5), Part(name="RandomPerspective", distortion_scale=0.2)]
    finish = Finish((), Augment([*steps, Part.model_validate(nested)]))
    batches = loader_batches(pictures(), workers=2, finish=finish)
    before = children()
    for epoch in (0, 1):
        kept = list(tensor_batches(pictures(), finish=finish).epoch(epoch))
        assert same(list(loader_batches(pictures(), finish=finish).epoch(epoch)), kept)
        assert same(list(batches.epoch(epoch)), kept)
    started = children() - before
    batches.close()
    assert list(batches.epoch(2)) == []
    workers = [
        pid
        for pid in started
        if pid in children() and "resource_tracker" not in " ".join(psutil.Process(pid).cmdline())
    ]
    # The server that forks workers stays for the next training; its workers are gone.
    assert len(workers) <= 1


def test_a_subset_is_served_by_its_index() -> None:
    index = torch.tensor([3, 1, 4])
    batches = LoaderBatches(samples(), index, Finish(()), 2, CPU)
    assert order(batches, 0) == [3, 1, 4]


def test_samples_of_all_kinds_are_collated() -> None:
    from PIL import Image

    inputs, targets = collate([(Image.new("RGB", (6, 4), (255, 0, 7)), 1), (Image.new("RGB", (6, 4)), np.int64(0))])
    assert (inputs.shape, inputs.dtype, targets.dtype) == ((2, 3, 4, 6), torch.uint8, torch.int64)
    assert inputs[0, :, 0, 0].tolist() == [255, 0, 7]
    assert targets.tolist() == [1, 0]
    inputs, targets = collate([(np.array([1.0, 2.0]), 0.5), ([3.0, 4.0], 1.5)])
    assert (inputs.dtype, inputs.tolist()) == (torch.float32, [[1.0, 2.0], [3.0, 4.0]])
    assert (targets.dtype, targets.tolist()) == (torch.float32, [[0.5], [1.5]])


def test_whole_numbers_to_predict_are_numbers() -> None:
    # As class numbers, (B,) against (B, 1) would broadcast to (B, B) without a word.
    data = [(torch.zeros(2), index) for index in range(4)]
    batch = next(iter(LoaderBatches(data, None, Finish((), numbers=True), 4, CPU).epoch(0)))
    assert (batch.targets.dtype, batch.targets.tolist()) == (torch.float32, [[0.0], [1.0], [2.0], [3.0]])


class Exhausted:
    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 3:
            raise StopIteration
        return torch.zeros(2), 0


def test_a_sample_that_raises_stop_iteration_does_not_cut_the_epoch_short_in_silence() -> None:
    batches = LoaderBatches(Exhausted(), None, Finish([]), 2, torch.device("cpu"))
    with pytest.raises(DataError, match=r"sample 3 of the dataset can't be read: .*StopIteration"):
        list(batches.epoch(0))


@pytest.mark.parametrize("serve", SERVERS)
def test_indices_are_the_samples_of_the_batch(serve: type) -> None:
    for batches in (serve(samples()), serve(samples(), seed=None), serve(samples(), drop=True)):
        for number, batch in enumerate(batches.epoch(2)):
            assert batches.indices(2, number * 5) == batch.targets.tolist()


def test_indices_of_a_subset_are_numbers_of_the_whole_dataset() -> None:
    index, data = torch.tensor([30, 10, 40]), samples(50)
    chosen = Samples(data.inputs[index], data.targets[index])
    for batches in (
        TensorBatches(chosen, PLAIN, 2, seed=1, index=index),
        LoaderBatches(data, index, PLAIN, 2, CPU, seed=1),
    ):
        assert [batches.indices(0, start) for start in (0, 2)] == [b.targets.tolist() for b in batches.epoch(0)]


@pytest.mark.parametrize("serve", SERVERS)
def test_peek_makes_the_batch_again_while_its_epoch_goes_on(serve: type) -> None:
    finish = Finish((), Augment([Part(name="RandomCrop", size=4)]))
    batches = serve(pictures(), finish=finish)
    whole = list(serve(pictures(), finish=finish).epoch(1))
    assert not torch.equal(whole[2].inputs, batches.peek(2, 10).inputs)
    epoch = batches.epoch(1)
    served = [next(epoch), next(epoch)]
    assert same([batches.peek(1, 10), batches.peek(1, 20)], [whole[2], whole[4]])
    assert same([*served, *epoch], whole)
    left = batches.epoch(1)
    next(left)
    assert same([batches.peek(1, 0)], whole[:1])


def test_peek_of_a_persons_dataset_reads_here_what_workers_read(persons_dice: MapDataset) -> None:
    batches = loader_batches(persons_dice, workers=1)
    try:
        whole = list(loader_batches(persons_dice).epoch(1))
        epoch = batches.epoch(1)
        before = torch.get_rng_state()
        first = next(epoch)
        assert same([batches.peek(1, 5), batches.peek(1, 0)], [whole[1], first])
        assert same([*epoch], whole[1:])
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        batches.close()


@pytest.mark.parametrize("ahead", [True, False])
def test_tensors_can_be_moved_away_and_back_in_the_middle_of_an_epoch(ahead: bool) -> None:
    whole = list(TensorBatches(pictures(), PLAIN, 5, seed=0, ahead=ahead).epoch(0))
    batches = TensorBatches(pictures(), PLAIN, 5, seed=0, ahead=ahead)
    epoch = batches.epoch(0)
    served = [next(epoch)]
    kept = batches._inputs, batches._targets
    batches.to(torch.device("meta"))  # the one other device there always is; it can't give the numbers back
    assert next(epoch).inputs.is_meta
    batches._inputs, batches._targets = kept
    batches.to(CPU)
    assert same([*served, *epoch], [whole[0], *whole[2:]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tensors_give_the_gpus_memory_back_and_take_it_again_bit_by_bit() -> None:
    cuda = torch.device("cuda", 0)
    data = pictures()
    batches = TensorBatches(Samples(data.inputs.to(cuda), data.targets.to(cuda)), PLAIN, 5, seed=0)
    before = list(batches.epoch(0))
    held = torch.cuda.memory_allocated()
    batches.to(CPU)
    assert torch.cuda.memory_allocated() < held
    batches.to(cuda)
    assert same(list(batches.epoch(0)), before)


@pytest.mark.parametrize("seed", [None, 0])
def test_what_a_model_writes_into_its_inputs_does_not_reach_the_data(seed: int | None) -> None:
    batches = tensor_batches(samples(), seed=seed)
    for epoch in (0, 1):
        for batch in batches.epoch(epoch):
            assert torch.equal(batch.inputs[:, 0].long(), batch.targets)
            batch.inputs.mul_(0.5).add_(1000)


def test_only_pictures_become_channels_last() -> None:
    batch = Batch(torch.rand(2, 3, 4, 4), torch.zeros(2))
    turned = batch.channels_last()
    assert turned.inputs.is_contiguous(memory_format=torch.channels_last)
    assert not batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert same([turned], [batch])
    table = Batch(torch.rand(2, 3), torch.zeros(2))
    assert table.channels_last() is table


def test_the_time_of_copies_and_finishing_is_measured() -> None:
    def slowly(inputs: Tensor) -> Tensor:
        time.sleep(0.02)
        return inputs

    batches = loader_batches(samples(), finish=Finish([slowly]))
    assert batches.copy_seconds == 0
    count = len(list(batches.epoch(0)))
    assert count * 0.02 <= batches.copy_seconds < 5
    assert tensor_batches(samples()).copy_seconds == 0
