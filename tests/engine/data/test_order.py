"""Which samples come when: mixtures by weight and balanced classes, the same again for (seed, epoch)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.data.serving.order import Balanced, Mixture, Order, Shuffled, mixed_samples


def counts(order: Order, epoch: int, samples: int) -> list[int]:
    counted: list[int] = torch.bincount(order.of(epoch), minlength=samples).tolist()
    return counted


def weighed(sizes: list[int], weights: list[float], seed: int = 0) -> Order:
    return Order(sum(sizes), 4, seed, False, drawing=Mixture(sizes, weights))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.1, 3)), min_size=1, max_size=3), st.integers(0, 9))
def test_each_dataset_of_a_mixture_is_drawn_by_its_weight(parts: list[tuple[int, float]], epoch: int) -> None:
    parts[0] = parts[0][0], 1.0  # [data] itself
    sizes, weights = [size for size, _ in parts], [weight for _, weight in parts]
    order = weighed(sizes, weights)
    drawn = counts(order, epoch, sum(sizes))
    assert order.samples == sum(drawn) == mixed_samples(sizes, weights)
    first = 0
    for size, weight in parts:
        of_part = drawn[first : first + size]
        assert abs(sum(of_part) - size * weight) <= 0.5 + 1e-6
        assert set(of_part) <= {int(weight), int(weight) + 1}, "each sample as often as the others, but for one time"
        first += size


def test_a_fraction_of_a_dataset_is_another_one_in_each_epoch() -> None:
    order = weighed([10, 40], [1.0, 0.25])
    drawn = [tuple(counts(order, epoch, 50)[10:]) for epoch in range(4)]
    assert len(set(drawn)) == 4
    assert all(sum(each) == 10 for each in drawn)


LABELS = torch.tensor([0] * 90 + [1] * 9 + [3])


def balanced(labels: Tensor = LABELS, samples: int = 100, weights: Tensor | None = None, seed: int = 0) -> Order:
    return Order(len(labels), 10, seed, False, drawing=Balanced(labels, 4, samples, weights))


def test_a_balanced_order_has_each_class_equally_often_and_as_many_samples() -> None:
    for epoch in range(3):
        positions = balanced().of(epoch)
        seen = torch.bincount(LABELS[positions], minlength=4).tolist()
        assert sum(seen) == 100
        assert seen[2] == 0, "of a class without samples there is none"
        assert sorted(seen[:2] + seen[3:]) == [33, 33, 34]
    # The twin: shuffled, the classes come as often as they are.
    shuffled = Order(100, 10, 0, False, drawing=Shuffled(100)).of(0)
    assert torch.bincount(LABELS[shuffled], minlength=4).tolist() == [90, 9, 0, 1]


def test_within_a_class_each_sample_is_as_likely_as_its_weight() -> None:
    weights = torch.ones(100)
    weights[0] = 9.0
    drawn = torch.cat([balanced(weights=weights).of(epoch) for epoch in range(60)])
    often = torch.bincount(drawn, minlength=100).float()
    share = float(often[0] / often[:90].sum())
    assert share == pytest.approx(9 / 98, abs=0.02)
    assert float(often[0]) > 4 * float(often[1:90].mean()), "one that weighs no more would come as often as the others"


def test_samples_of_no_class_are_not_drawn() -> None:
    labels = torch.tensor([0, 1, -100, 7, 1, 0])
    assert set(balanced(labels, 40).of(0).tolist()) == {0, 1, 4, 5}


@pytest.mark.parametrize("make", [balanced, lambda seed=0: weighed([10, 7], [1, 1.5], seed)])
def test_an_order_is_the_same_again_for_seed_and_epoch_and_another_for_others(make: object) -> None:
    assert callable(make)
    assert torch.equal(make().of(3), make().of(3))
    assert not torch.equal(make().of(3), make().of(4))
    assert not torch.equal(make().of(3), make(seed=1).of(3))
    before = torch.get_rng_state()
    make().of(0)
    assert torch.equal(torch.get_rng_state(), before)
