"""The Python code of a model draws, holds and computes what the model itself does."""

# B batch · T time · C channels

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import catalog
from engine.errors import ModelError
from engine.export.taken.pieces import PADDED, PLAIN, imports, pieces
from engine.models.layers import Flow, build_chain, trace
from engine.models.source import ModelCode, model_code
from engine.recipe import Layer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch warns of odd shapes, as it should

SIZES = {"classes": 10, "vocabulary": 7}
TOKENS = Flow((5,), torch.long)
VECTOR, SERIES, PICTURE, VOLUME = (6,), (4, 6), (3, 8, 8), (2, 6, 6, 6)


def layer(name: str, *layers: Layer, **parameters: Any) -> Layer:
    return Layer(name=name, layers=layers, **parameters)


# What some layers can't do without.
NEEDED: dict[str, Any] = {
    **dict.fromkeys(("kernel_size", "output_size", "size", "nhead", "downscale_factor", "times"), 2),
    **dict.fromkeys(("num_groups", "groups", "padding", "upscale_factor", "num_layers", "num_heads"), 1),
    **dict.fromkeys(("out_features", "out_channels", "hidden_size", "num_embeddings", "embedding_dim"), 5),
    **dict.fromkeys(("threshold", "value", "norm_type"), 2.0),
    "unflattened_size": [1, -1],
}
MORE: dict[str, dict[str, Any]] = {
    "Permute": {"dims": [1, 0]},
    "Unflatten": {"dim": 1},
    "Upsample": {"scale_factor": 2.0},
    "Softmax": {"dim": -1},
}


def simplest(name: str) -> Layer:
    """The layer with no more parameters than it needs."""
    entry = catalog.layers()[name]
    needed = {each.name: NEEDED[each.name] for each in entry.parameters if each.required and each.name in NEEDED}
    return layer(name, *([layer("Linear", out_features=4)] if entry.container else []), **needed, **MORE.get(name, {}))


def file_of(code: ModelCode) -> str:
    """The code with the classes that it needs and its imports."""
    classes = pieces(sorted(code.needs), PADDED if code.padded else PLAIN)
    text = "\n\n".join([*classes, "\n".join(code.lines)])
    return "\n".join(["from __future__ import annotations", *imports(text), "from torch import nn", text])


def written(layers: list[Layer], flow: Flow | tuple[int, ...]) -> nn.Module:
    """The model that the code makes, its weights drawn from seed 0."""
    names: dict[str, Any] = {}
    exec(compile(file_of(model_code(layers, flow, SIZES)), "model.py", "exec"), names)
    torch.manual_seed(0)
    return names["Model"]()  # type: ignore[no-any-return]


def ours(layers: list[Layer], flow: Flow | tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return build_chain(layers, flow, SIZES)


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one
    )


def samples(flow: Flow | tuple[int, ...]) -> Tensor:
    """Four samples; tokens end in padding of another length each."""
    generator = torch.Generator().manual_seed(1)
    if not isinstance(flow, Flow):
        return torch.randn(4, *flow, generator=generator)
    tokens = torch.randint(1, 7, (4, *flow.shape), generator=generator)
    return tokens.masked_fill(torch.arange(5) >= torch.tensor([[5], [3], [1], [4]]), 0)


def agree(layers: list[Layer], flow: Flow | tuple[int, ...]) -> bool:
    """Whether both draw the same weights under the same names, and make the same of the same samples."""
    one, other, inputs = written(layers, flow), ours(layers, flow), samples(flow)
    assert same_weights(one.state_dict(), other.state_dict())
    for training in (True, False):  # dropout draws, batch norm measures
        torch.manual_seed(2)
        found = one.train(training)(inputs)
        torch.manual_seed(2)
        expected = other.train(training)(inputs)
        if not torch.equal(found.nan_to_num(), expected.nan_to_num()):
            return False
    return True


@pytest.mark.parametrize("name", sorted(catalog.layers()))
def test_every_layer_is_written_as_it_is_built(name: str) -> None:
    for flow in (TOKENS,) if name.startswith("Embedding") else (VECTOR, SERIES, PICTURE, VOLUME):
        if trace([simplest(name)], flow, SIZES)[0].error is None:
            assert agree([simplest(name)], flow), flow


def test_a_model_that_computes_something_else_would_be_found() -> None:
    linear, inputs = [layer("Linear", out_features=3)], samples(VECTOR)
    assert agree(linear, VECTOR)
    model = written(linear, VECTOR)
    assert torch.equal(model(inputs), ours(linear, VECTOR)(inputs))
    assert not torch.equal(model(inputs), ours([*linear, layer("Tanh")], VECTOR)(inputs))
    assert not same_weights(model.state_dict(), ours([layer("Linear", out_features=4)], VECTOR).state_dict())


FLAT = st.one_of(
    st.builds(
        layer, st.sampled_from(["ReLU", "LayerNorm", "BatchNorm1d", "BatchNorm2d", "Flatten", "Dropout", "GELU"])
    ),
    st.builds(lambda width: layer("Linear", out_features=width), st.integers(1, 6)),
    st.builds(
        lambda channels, size, padding: layer("Conv2d", out_channels=channels, kernel_size=size, padding=padding),
        st.integers(1, 4),
        st.sampled_from([1, [3, 1]]),
        st.sampled_from([0, 1]),
    ),
    st.builds(lambda more: layer("MaxPool2d", kernel_size=2, return_indices=more), st.booleans()),
    st.builds(
        lambda name, width, both, returns: layer(name, hidden_size=width, bidirectional=both, returns=returns),
        st.sampled_from(["RNN", "LSTM", "GRU"]),
        st.integers(1, 4),
        st.booleans(),
        st.sampled_from(["sequence", "last", "mean"]),
    ),
    st.builds(lambda keep: layer("SequencePool", keep=keep), st.sampled_from(["mean", "max", "first", "last"])),
    st.builds(lambda kind: layer("PositionalEncoding", kind=kind), st.sampled_from(["sinusoidal", "learned"])),
    st.just(layer("MultiheadAttention", num_heads=1)),
    st.just(layer("TransformerEncoderLayer", nhead=1, dim_feedforward=4, dropout=0.5)),
    st.just(layer("TransformerEncoder", nhead=1, num_layers=2, dim_feedforward=4, norm_first=True)),
)


def nested(inner: st.SearchStrategy[Layer]) -> st.SearchStrategy[Layer]:
    layers = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda held: layer("Sequential", *held), layers),
        st.builds(lambda held: layer("Residual", *held), layers),
        st.builds(lambda held, join: layer("Parallel", *held, join=join), layers, st.sampled_from(["concat", "add"])),
        st.builds(lambda held, times: layer("Repeat", *held, times=times), layers, st.integers(1, 3)),
    )


TREES = st.lists(st.recursive(FLAT, nested, max_leaves=6), min_size=1, max_size=4)


@given(TREES, st.sampled_from([VECTOR, SERIES, PICTURE]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_any_tree_that_traces_is_written_as_it_is_built(layers: list[Layer], flow: tuple[int, ...]) -> None:
    fitting = _fitting(layers, flow)
    if fitting:
        assert agree(fitting, flow)


@given(TREES, st.sampled_from([None, 0]))
@settings(max_examples=75, deadline=None)
def test_any_tree_over_tokens_leaves_padding_out_alike(layers: list[Layer], padding: int | None) -> None:
    start = layer("Embedding", embedding_dim=4, **({} if padding is None else {"padding_idx": padding}))
    assert agree(_fitting([start, *layers], TOKENS), TOKENS)


def _fitting(layers: list[Layer], flow: Flow | tuple[int, ...]) -> list[Layer]:
    """The layers up to the first that does not fit."""
    for count in range(len(layers), 0, -1):
        if all(row.error is None for row in trace(layers[:count], flow, SIZES)):
            return layers[:count]
    return []


def test_most_trees_have_something_that_fits() -> None:
    # The twin of the two above: they would pass if nothing ever fitted.
    found: list[int] = []

    @given(TREES)
    @settings(max_examples=100, deadline=None, database=None)
    def look(layers: list[Layer]) -> None:
        found.append(len(_fitting(layers, SERIES)))

    look()
    assert sum(count > 0 for count in found) > len(found) / 4


def test_padding_would_be_seen_where_it_takes_part() -> None:
    pooled = [layer("GRU", hidden_size=3, returns="last")]
    without = [layer("Embedding", embedding_dim=4), *pooled]
    aware = [layer("Embedding", embedding_dim=4, padding_idx=0), *pooled]
    padded, plain = written(aware, TOKENS), written(without, TOKENS)
    plain.load_state_dict(padded.state_dict())
    assert not torch.allclose(padded(samples(TOKENS)), plain(samples(TOKENS)))


# How it reads


def test_layers_stand_in_lines_of_their_own_with_shapes_beside_them() -> None:
    layers = [
        layer("Conv2d", out_channels=20, kernel_size=5),
        layer("Flatten"),
        layer("Linear", out_features="classes"),
    ]
    assert "\n".join(model_code(layers, (1, 28, 28), SIZES).lines) == (
        "class Model(nn.Sequential):\n"
        '    """1×28×28 → 10, 115,730 parameters."""\n'
        "\n"
        "    def __init__(self) -> None:\n"
        "        super().__init__(\n"
        "            nn.Conv2d(1, 20, kernel_size=5),  # 20×24×24\n"
        "            nn.Flatten(),  # 11520\n"
        "            nn.Linear(11520, 10),  # 10\n"
        "        )"
    )


def test_containers_are_nested_and_alike_rounds_are_written_once() -> None:
    layers = [
        layer("Residual", layer("Conv2d", out_channels=8, kernel_size=3, padding=1, stride=2), layer("ReLU")),
        layer("Parallel", layer("Conv2d", out_channels=8, kernel_size=1), layer("Identity")),
        layer("Repeat", layer("Conv2d", out_channels=4, kernel_size=1), times=4),
    ]
    assert "\n".join(model_code(layers, PICTURE, SIZES).lines[5:]) == (
        "            Residual(\n"
        "                nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1),  # 8×4×4\n"
        "                nn.ReLU(),  # 8×4×4\n"
        "                shortcut=nn.Sequential(\n"
        "                    nn.Conv2d(3, 8, kernel_size=1, stride=2, bias=False),  # 8×4×4\n"
        "                    nn.BatchNorm2d(8),  # 8×4×4\n"
        "                ),\n"
        "            ),  # 8×4×4\n"
        "            Parallel(\n"
        "                nn.Conv2d(8, 8, kernel_size=1),  # 8×4×4\n"
        "                nn.Identity(),  # 8×4×4\n"
        "                dim=1,\n"
        "            ),  # 16×4×4\n"
        "            nn.Sequential(\n"
        "                nn.Conv2d(16, 4, kernel_size=1),  # 4×4×4\n"
        "                *(\n"
        "                    layer\n"
        "                    for _ in range(3)  # each time with weights of their own\n"
        "                    for layer in (\n"
        "                        nn.Conv2d(4, 4, kernel_size=1),  # 4×4×4\n"
        "                    )\n"
        "                ),\n"
        "            ),  # 4×4×4\n"
        "        )"
    )


def test_classes_that_a_model_does_not_need_are_not_written() -> None:
    flat = model_code([layer("Linear", out_features=3)], VECTOR, SIZES)
    pooled = model_code([layer("LSTM", hidden_size=3), layer("SequencePool")], SERIES, SIZES)
    assert (flat.needs, flat.padded) == (frozenset(), False)
    assert (pooled.needs, pooled.padded) == ({"LSTM", "SequencePool"}, False)
    assert "lengths" not in file_of(pooled)


def test_a_layer_at_fault_is_named() -> None:
    with pytest.raises(ModelError, match=r"model\.layers\.1"):
        model_code([layer("Flatten"), layer("Conv2d", out_channels=3, kernel_size=3)], PICTURE, SIZES)
