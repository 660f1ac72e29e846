"""Layers in layers: traced as they are built, or one of them is named as being at fault."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import resnet

from engine.catalog import Entry
from engine.errors import StudioError
from engine.models import traces
from engine.models.layers import build_chain, projection, trace
from engine.models.rows import LayerRow, count_parameters
from engine.models.traces import Flow
from engine.recipe import DEEPEST, Layer
from engine.recipe.tree import walk

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"classes": 10, "vocabulary": 20}
VECTOR, SERIES, PICTURE, TOKENS = Flow((6,)), Flow((4, 6)), Flow((3, 8, 8)), Flow((5,), torch.int64)


def layer(name: str, *layers: Layer, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters, "layers": layers})


def inputs(flow: Flow, batch: int = 3) -> torch.Tensor:
    if flow.dtype is torch.int64:
        return torch.randint(0, 20, (batch, *flow.shape))
    return torch.randn(batch, *flow.shape)


def fault(*layers: Layer, flow: Flow = PICTURE) -> str:
    errors = [row.error for row in trace(layers, flow, SIZES) if row.error is not None]
    assert len(errors) == 1
    return str(errors[0])


LEAVES = st.one_of(
    st.sampled_from(["ReLU", "Flatten", "LayerNorm", "Dropout", "BatchNorm2d", "SequencePool", "GELU"]).map(layer),
    st.builds(lambda size: layer("Linear", out_features=size), st.sampled_from([1, 6, "classes", "targets"])),
    st.builds(
        lambda wide, kernel, stride: layer("Conv2d", out_channels=wide, kernel_size=kernel, stride=stride),
        st.integers(1, 4), st.integers(1, 5), st.integers(1, 2),
    ),
    st.builds(lambda size: layer("Conv1d", out_channels=size, kernel_size=1), st.integers(1, 5)),
    st.builds(
        lambda name, returns: layer(name, hidden_size=3, returns=returns),
        st.sampled_from(["GRU", "LSTM", "RNN"]), st.sampled_from(["sequence", "last", "mean"]),
    ),
    st.builds(lambda wide, padding: layer("Embedding", embedding_dim=wide, padding_idx=padding),
              st.integers(1, 6), st.sampled_from([None, 0])),
    st.builds(lambda heads: layer("MultiheadAttention", num_heads=heads), st.integers(1, 3)),
    st.just(layer("PositionalEncoding")),
    st.just(layer("Permute", dims=[1, 0])),
)  # fmt: skip
BOXED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda layers: layer("Sequential", *layers)),
        st.builds(
            lambda layers, way: layer("Residual", *layers, projection=way),
            st.lists(inner, min_size=1, max_size=3), st.sampled_from(["auto", "auto", "none"]),
        ),
        st.builds(
            lambda layers, join, dim: layer("Parallel", *layers, join=join, **({"dim": dim} if dim else {})),
            st.lists(inner, min_size=1, max_size=3), st.sampled_from(["concat", "add"]),
            st.sampled_from([None, 1, -1, -2, -3]),
        ),
        st.builds(
            lambda layers, times: layer("Repeat", *layers, times=times),
            st.lists(inner, min_size=1, max_size=2), st.integers(1, 3),
        ),
    ),
    max_leaves=6,
)  # fmt: skip
TREES = st.lists(BOXED, min_size=1, max_size=4).map(tuple)


@settings(max_examples=200, deadline=None)
@given(TREES, st.sampled_from([VECTOR, SERIES, PICTURE, TOKENS]))
def test_any_tree_is_traced_as_it_is_built_or_one_layer_is_named(tree: tuple[Layer, ...], flow: Flow) -> None:
    rows = trace(tree, flow, SIZES)
    assert [row.path for row in rows] == [path for path, _ in walk(tree)]
    wrong = [row for row in rows if row.error is not None]
    if not wrong:
        module = build_chain(tree, flow, SIZES).eval()
        assert sum(row.parameters for row in rows if row.outermost) == count_parameters(module)
        given = inputs(flow)
        outputs = module(given)
        assert tuple(outputs.shape[1:]) == [row for row in rows if row.outermost][-1].output
        other = torch.cat([inputs(flow, 1), given[1:]])
        assert torch.allclose(outputs[1:], module(other)[1:], atol=1e-5)  # samples do not mix
        for row, child in zip([row for row in rows if row.outermost], module, strict=True):
            assert row.parameters == count_parameters(child)
        return
    assert len(wrong) == 1
    assert wrong[0].error is not None
    where = wrong[0].error.where
    assert where.startswith("model." + ".".join(f"layers.{position}" for position in wrong[0].path))
    with pytest.raises(StudioError) as caught:
        build_chain(tree, flow, SIZES)
    assert str(caught.value) == str(wrong[0].error)


def test_some_trees_fit_and_some_do_not() -> None:
    # The twin of the one above, which would pass if nothing fitted or everything did.
    fitting = layer("Residual", layer("Parallel", layer("Linear", out_features=3), layer("ReLU")))
    assert trace([fitting], VECTOR, SIZES)[-1].error is None
    assert fault(layer("Residual", layer("Conv2d", out_channels=3, kernel_size=1)), flow=VECTOR).startswith(
        "model.layers.0.layers.0: Conv2d"
    )


def conv(wide: int, kernel: int, stride: int = 1) -> Layer:
    return layer("Conv2d", out_channels=wide, kernel_size=kernel, stride=stride, padding=kernel // 2, bias=False)


def basic(wide: int, stride: int) -> Layer:
    norm = layer("BatchNorm2d")
    return layer("Residual", conv(wide, 3, stride), norm, layer("ReLU"), conv(wide, 3), norm)


def bottleneck(wide: int, stride: int) -> Layer:
    norm, relu = layer("BatchNorm2d"), layer("ReLU")
    return layer("Residual", conv(wide, 1), norm, relu, conv(wide, 3, stride), norm, relu, conv(4 * wide, 1), norm)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8, 9])
def test_a_shortcut_is_that_of_torchvisions_blocks(stride: int, side: int) -> None:
    for ours, theirs in ((basic, resnet.BasicBlock), (bottleneck, resnet.Bottleneck)):
        out = 32 * theirs.expansion
        down = nn.Sequential(nn.Conv2d(16, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        block = theirs(16, 32, stride, down)
        row = trace([ours(32, stride)], (16, side, side), SIZES)[0]
        assert row.parameters == count_parameters(block)
        assert row.output == tuple(block(torch.randn(2, 16, side, side)).shape[1:])
        made = build_chain([ours(32, stride)], (16, side, side), SIZES)
        assert [tuple(p.shape) for p in made[0].shortcut.parameters()] == [tuple(p.shape) for p in down.parameters()]


def test_a_block_that_keeps_its_shape_has_no_shortcut_of_its_own() -> None:
    made = build_chain([basic(16, 1)], (16, 8, 8), SIZES)
    assert list(made[0].shortcut.parameters()) == []


@pytest.mark.parametrize(("before", "after"), [(9, 2), (7, 4), (5, 3), (3, 2), (100, 34), (8, 8)])
def test_a_shortcut_strides_to_whatever_stride_leads_to(before: int, after: int) -> None:
    rows = trace(projection((3, before), (5, after)), (3, before), SIZES)
    assert rows[-1].output == (5, after)


def test_series_that_are_convolved_get_a_convolution_as_their_shortcut() -> None:
    strided = layer("Conv1d", out_channels=4, kernel_size=3, stride=2, padding=1)
    assert trace([layer("Residual", strided)], SERIES, SIZES)[0].settings == "shortcut Conv1d + BatchNorm1d"
    assert trace([layer("Residual", layer("Linear", out_features=3))], SERIES, SIZES)[0].settings == "shortcut Linear"


SMALL = layer("ReLU")


@pytest.mark.parametrize(
    ("wrong", "flow", "said"),
    [
        (layer("Repeat", SMALL, times=10**9), PICTURE, "model.layers.0.times: 1000000000 rounds can't be made."),
        (layer("Repeat", SMALL, times=0), PICTURE, "model.layers.0.times: 0 rounds can't be made. Write 1 to 5000."),
        (layer("Repeat", SMALL, times=-1), PICTURE, "model.layers.0.times: -1 rounds"),
        (layer("Repeat", SMALL, times=2.0), PICTURE, "model.layers.0.times: 2.0 is not int"),
        (layer("Repeat", SMALL, times="targets"), PICTURE, "model.layers.0.times: this data has no targets."),
        (layer("Repeat", SMALL), PICTURE, "model.layers.0.times: Repeat needs it"),
        (layer("Repeat", layer("Repeat", layer("Repeat", SMALL, times=500), times=500), times=500), PICTURE,
         "model.layers.0.times: 500 rounds can't be made. Remove layers"),
        *((layer(name), PICTURE, f"model.layers.0: {name} is empty. Add a layer to it, or remove it.")
          for name in ("Sequential", "Residual", "Parallel")),
        (layer("Repeat", times=2), PICTURE, "model.layers.0: Repeat is empty."),
        (layer("Conv2d", SMALL, out_channels=1, kernel_size=1), PICTURE, "model.layers.0.layers: Conv2d holds no"),
        (layer("Sequential", SMALL, times=2), PICTURE, "model.layers.0.times: is not a parameter of Sequential."),
        (layer("Residual", SMALL, projektion="auto"), PICTURE, "model.layers.0.projektion: is not a parameter of Res"),
        (layer("Residual", SMALL, projection="always"), PICTURE, "model.layers.0.projection: 'always' is not"),
        (layer("Parallel", SMALL, join="mul"), PICTURE, "model.layers.0.join: 'mul' is not"),
        (layer("Parallel", SMALL, SMALL, dim=0), PICTURE, "model.layers.0.dim: would be the batch: samples would mix."),
        (layer("Parallel", SMALL, SMALL, dim=-4), PICTURE, "model.layers.0.dim: would be the batch"),
        (layer("Parallel", *[layer("Flatten")] * 2, dim=-2), PICTURE, "model.layers.0.dim: would be the batch"),
        (layer("Parallel", SMALL, SMALL, dim=4), PICTURE, "model.layers.0: can't concat 3×8×8."),
        (layer("Parallel", SMALL, layer("Flatten"), join="add"), PICTURE, "model.layers.0: can't add 3×8×8 and 192."),
        (layer("Residual", layer("Embedding", embedding_dim=4)), TOKENS,
         "model.layers.0: Residual needs numbers, tokens reach it. Add an Embedding above it."),
        *((each, TOKENS, f"model.layers.0: {each.name} needs numbers, tokens reach it. Add an Embedding above it.")
          for each in (layer("Linear", out_features=1), layer("Softmax", dim=-1), layer("Dropout"))),
        (layer("Residual", layer("Flatten")), PICTURE, "model.layers.0: adds 3×8×8 to the 192 that its layers give."),
        (layer("Residual", layer("Flatten"), projection="none"), PICTURE, "model.layers.0: adds 3×8×8 to the 192"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_container_is_said_at_once(wrong: Layer, flow: Flow, said: str) -> None:
    began = time.thread_time()
    assert fault(wrong, layer("ReLU"), flow=flow).startswith(said)
    assert time.thread_time() - began < 2


def test_a_number_of_rounds_may_come_from_the_data() -> None:
    assert (
        trace([layer("Repeat", layer("Linear", out_features=6), times="classes")], VECTOR, SIZES)[0].parameters == 420
    )


def test_every_round_has_weights_of_its_own() -> None:
    module = build_chain([layer("Repeat", layer("Linear", out_features=6), times=100)], VECTOR, SIZES)
    assert len({id(parameter) for parameter in module.parameters()}) == 200


def test_a_round_that_fails_later_is_shown() -> None:
    rows = trace([layer("Repeat", layer("Conv2d", out_channels=3, kernel_size=5), times=3)], PICTURE, SIZES)
    assert rows[1].input == (3, 4, 4)
    assert "a kernel of 5×5 does not fit into 3×4×4" in str(rows[1].error)


@pytest.mark.parametrize("depth", [DEEPEST - 1, DEEPEST + 1, 150])
def test_layers_nested_too_deep_are_said_to_be(depth: int) -> None:
    nested = layer("ReLU")
    for _ in range(depth):
        nested = Layer.model_construct(name="Sequential", layers=(nested,))
    rows: list[LayerRow] = []
    thread = threading.Thread(target=lambda: rows.extend(trace([nested], VECTOR, SIZES)))
    thread.start()
    thread.join()
    errors = [str(row.error) for row in rows if row.error is not None]
    if depth < DEEPEST:
        assert errors == []
    else:
        assert len(errors) == 1
        assert f"layers are nested more than {DEEPEST} deep" in errors[0]


def test_what_is_remembered_is_bounded_and_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_REMEMBERED", 20)
    monkeypatch.setattr(traces, "_memory", OrderedDict())
    state, wrong = torch.get_rng_state(), list[object]()

    def work(first: int) -> None:
        for size in range(first, first + 60):
            rows = trace([layer("Linear", out_features=1 + size % 45), layer("Dropout")], VECTOR, SIZES)
            wrong.extend(row for row in rows if row.output != (1 + size % 45,))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 0 < len(traces._memory) <= 20
    assert torch.equal(state, torch.get_rng_state())


def test_what_was_used_last_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_REMEMBERED", 3)
    monkeypatch.setattr(traces, "_memory", OrderedDict())
    asked: list[int] = []
    real = traces._trace

    def watched(entry: Entry, values: dict[str, Any], *rest: Any) -> traces.Traced:
        asked.append(values["out_features"])
        return real(entry, values, *rest)

    monkeypatch.setattr(traces, "_trace", watched)
    for size in (101, 102, 103, 101, 104, 101, 102):
        trace([layer("Linear", out_features=size)], (7,), SIZES)
    assert asked == [101, 102, 103, 104, 102]
