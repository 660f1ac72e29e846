"""Whatever is suggested to mend a model does mend it, and a healthy model is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.fixes import fitted, fixes
from engine.models.layers import trace
from engine.models.traces import Flow
from engine.recipe import Layer
from engine.recipe.tree import Tree

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"classes": 10, "channels": 3, "height": 32, "width": 32}
WORDS = {"classes": 10, "vocabulary": 50, "length": 20}
PICTURE, TEXT = Flow((3, 32, 32)), Flow((20,), torch.int64)


def layer(name: str, *layers: Layer, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters, "layers": layers})


RELU, FLATTEN, HEAD = layer("ReLU"), layer("Flatten"), layer("Linear", out_features="classes")
CONV = layer("Conv2d", out_channels=8, kernel_size=3)
SAME = layer("Conv2d", out_channels=8, kernel_size=3, padding=1)

MISTAKES: dict[str, tuple[Tree, Flow]] = {
    "a Flatten is missing": ((CONV, RELU, layer("Linear", in_features=7200, out_features=10)), PICTURE),
    "in_features of another size of picture": (
        (CONV, RELU, FLATTEN, layer("Linear", in_features=9216, out_features=10)), PICTURE),
    "out_features of other data": (
        (FLATTEN, layer("Linear", out_features=64), RELU, layer("Linear", out_features=7)), PICTURE),
    "a kernel too large": ((layer("Conv2d", out_channels=8, kernel_size=33), FLATTEN, HEAD), PICTURE),
    "another number of channels": (
        (layer("Conv2d", in_channels=1, out_channels=8, kernel_size=3), FLATTEN, HEAD), PICTURE),
    "a head for other classes": ((FLATTEN, layer("Linear", in_features=3072, out_features=1000)), PICTURE),
    "an Embedding is missing": ((layer("GRU", hidden_size=8, returns="last"), HEAD), TEXT),
    "an Embedding too many": ((layer("Embedding", embedding_dim=8), FLATTEN, HEAD), PICTURE),
    "no head": ((CONV, RELU), PICTURE),
    "a sequence at the end": ((layer("Embedding", embedding_dim=8), layer("GRU", hidden_size=8), HEAD), TEXT),
    "widths that contradict each other": (
        (FLATTEN, layer("Linear", out_features=64), RELU, layer("Linear", in_features=32, out_features=10)), PICTURE),
    "a norm of another width": ((CONV, layer("BatchNorm2d", num_features=16), FLATTEN, HEAD), PICTURE),
    "a shortcut that does not fit": (
        (layer("Residual", SAME, projection="none"), FLATTEN, HEAD), PICTURE),
    "targets where there are classes": ((FLATTEN, layer("Linear", out_features="targets")), PICTURE),
    "branches that can't be added": (
        (layer("Parallel", SAME, layer("Conv2d", out_channels=9, kernel_size=1), join="add"), FLATTEN, HEAD), PICTURE),
    "a mistake inside": (
        (layer("Sequential", CONV, RELU, layer("Linear", in_features=7200, out_features="classes")),), PICTURE),
    "a sequence layer under a Flatten": ((FLATTEN, layer("LSTM", hidden_size=8), HEAD), PICTURE),
    "attention on pictures": ((layer("TransformerEncoder", nhead=4, num_layers=1), FLATTEN, HEAD), PICTURE),
    "a table as a sequence": ((layer("GRU", hidden_size=8, returns="last"), HEAD), Flow((30,))),
    "a norm for series": ((CONV, layer("BatchNorm1d"), FLATTEN, HEAD), PICTURE),
    "pooling under a Flatten": ((FLATTEN, layer("MaxPool2d", kernel_size=2), HEAD), PICTURE),
    "pooled to nothing": (
        (CONV, *[layer("MaxPool2d", kernel_size=4)] * 3, FLATTEN, HEAD), PICTURE),
}  # fmt: skip
HEALTHY: dict[str, tuple[Tree, Flow]] = {
    "perceptron": ((FLATTEN, layer("Linear", in_features=3072, out_features=64), RELU, HEAD), PICTURE),
    "convolutions": (
        (CONV, RELU, layer("MaxPool2d", kernel_size=2), FLATTEN, layer("Linear", out_features=10)),
        PICTURE,
    ),
    "text": ((layer("Embedding", embedding_dim=8), layer("GRU", hidden_size=8, returns="mean"), HEAD), TEXT),
    "nested": ((layer("Residual", SAME), layer("Sequential", FLATTEN, HEAD), layer("LogSoftmax", dim=-1)), PICTURE),
}


def sizes(flow: Flow) -> dict[str, int]:
    return WORDS if flow is TEXT else SIZES


def fits(layers: Tree, flow: Flow) -> bool:
    rows = trace(layers, flow, sizes(flow))
    return all(row.error is None for row in rows) and [row for row in rows if row.outermost][-1].output == (10,)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_classic_mistakes_are_mended(mistake: str) -> None:
    layers, flow = MISTAKES[mistake]
    assert not fits(layers, flow)
    assert fixes(layers, flow, sizes(flow), 10)
    assert fits(fitted(layers, flow, sizes(flow), 10), flow)


@pytest.mark.parametrize(
    ("wrong", "right", "title"),
    [
        (layer("Linaer", out_features=8), layer("Linear", out_features=8), "make it Linear"),
        (layer("Linear", out_feature=8), layer("Linear", out_features=8), "make out_feature out_features"),
        (layer("Linear", out_features="clases"), HEAD, "set out_features to the data's classes"),
    ],
)
def test_what_is_misspelt_becomes_what_was_meant(wrong: Layer, right: Layer, title: str) -> None:
    first = fixes((FLATTEN, wrong, HEAD), PICTURE, SIZES, 10)[0]
    assert (first.title, first.layers, first.gives_up) == (title, (FLATTEN, right, HEAD), False)
    assert fits(fitted((FLATTEN, wrong, HEAD), PICTURE, SIZES, 10), PICTURE)


@pytest.mark.parametrize("picture", [(1, 28, 28), (3, 32, 32)])
def test_rows_of_pictures_become_the_steps_of_a_sequence(picture: tuple[int, ...]) -> None:
    channels, height, width = picture
    found = fixes((FLATTEN, layer("LSTM", hidden_size=8)), Flow(picture), SIZES, 10)
    assert found[0].title == "read the rows of pictures as a sequence, in place of the Flatten above"
    assert trace(found[0].layers, Flow(picture), SIZES)[-1].input == (height, channels * width)


def test_a_perceptron_on_pictures_is_flattened_above_its_first_linear() -> None:
    wide = layer("Linear", out_features=8)
    for head, also in ((HEAD, ""), (layer("Linear", out_features=7), " and set out_features to classes")):
        found = next(fix for fix in fixes((wide, RELU, head), PICTURE, SIZES, 10) if "Flatten" in fix.title)
        assert found.title == f"add a Flatten above the first Linear{also}"
        assert found.layers == (FLATTEN, wide, RELU, HEAD)
    series = [fix.title for fix in fixes((wide, RELU, HEAD), Flow((5, 6)), SIZES, 10)]
    assert "add a Flatten above the first Linear" not in series, "a Linear for each step is usual"


def test_a_block_whose_branches_do_not_fit_is_not_told_to_flatten() -> None:
    branches = layer("Parallel", layer("Linear", out_features=3), layer("GRU", hidden_size=4), join="add")
    assert [fix.title for fix in fixes((branches, HEAD), Flow((5, 6)), SIZES, 10)] == [
        "join by concat", "remove Parallel"
    ]  # fmt: skip


def test_fitting_takes_no_layer_out_that_only_a_person_can_mend() -> None:
    layers = (FLATTEN, layer("Linear", out_features=8), layer("Zzz"), HEAD)
    found = fixes(layers, PICTURE, SIZES, 10)
    assert [(fix.title, fix.gives_up) for fix in found] == [("remove Zzz", True)]
    assert fitted(layers, PICTURE, SIZES, 10) == layers


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_is_left_as_it_is(name: str) -> None:
    layers, flow = HEALTHY[name]
    assert fits(layers, flow)
    assert fixes(layers, flow, sizes(flow), 10) == []
    assert fitted(layers, flow, sizes(flow), 10) == layers


BROKEN = st.lists(
    st.one_of(
        st.sampled_from([RELU, FLATTEN, layer("BatchNorm2d"), layer("SequencePool"), layer("LayerNorm")]),
        st.builds(
            lambda inside, wide, kernel: layer("Conv2d", in_channels=inside, out_channels=wide, kernel_size=kernel),
            st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3, 40]),
        ),
        st.builds(
            lambda inside, wide: layer("Linear", in_features=inside, out_features=wide),
            st.sampled_from([1, 32, 3072]), st.sampled_from([3, 10, "classes", "targets"]),
        ),
        st.builds(lambda wide: layer("Linear", out_features=wide), st.sampled_from([3, "classes"])),
        st.builds(lambda size: layer("GRU", input_size=size, hidden_size=4), st.sampled_from([4, 32])),
        st.just(layer("Embedding", embedding_dim=4)),
        st.builds(lambda way: layer("Residual", CONV, projection=way), st.sampled_from(["auto", "none"])),
        st.just(layer("Sequential", CONV, layer("Linear", in_features=7, out_features=3))),
        st.just(layer("Linaer", out_features=3)),
        st.just(layer("Sequential")),
    ),
    min_size=1,
    max_size=5,
).map(tuple)  # fmt: skip


def faults_left(layers: Tree, flow: Flow) -> int:
    rows = trace(layers, flow, sizes(flow))
    return len(rows) - next((number for number, row in enumerate(rows) if row.error is not None), len(rows))


@settings(max_examples=100, deadline=None)
@given(BROKEN, st.sampled_from([PICTURE, TEXT]))
def test_every_suggestion_moves_the_fault_on(layers: Tree, flow: Flow) -> None:
    left = faults_left(layers, flow)
    found = fixes(layers, flow, sizes(flow), 10)
    assert len({fix.layers for fix in found}) == len(found)
    for fix in found:
        assert fix.layers != layers
        if left:
            assert faults_left(fix.layers, flow) < left
        else:
            assert fits(fix.layers, flow)
    if fits(layers, flow):
        assert found == []
    elif left and len(layers) > 1:
        assert found  # at least: remove it


@settings(max_examples=50, deadline=None)
@given(BROKEN, st.sampled_from([PICTURE, TEXT]))
def test_fitting_is_done_after_once(layers: Tree, flow: Flow) -> None:
    once = fitted(layers, flow, sizes(flow), 10)
    assert once
    if fits(once, flow):
        assert fitted(once, flow, sizes(flow), 10) == once
