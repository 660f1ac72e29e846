"""Shapes are known before a step is run, and what does not fit is said in words."""

# B batch · T time · C channels

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import catalog
from engine.errors import ModelError, StudioError
from engine.models.layers import build_chain, trace
from engine.models.rows import count_parameters, settings_text, shape_text
from engine.models.traces import Flow
from engine.recipe import Layer as Part

# torch warns of odd shapes, as it should.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"classes": 10}
VECTOR, SERIES, PICTURE, VOLUME = (6,), (4, 6), (3, 8, 8), (2, 6, 6, 6)

# A value for each parameter that some layer cannot do without.
NEEDED: dict[str, Any] = {
    **dict.fromkeys(("kernel_size", "output_size", "size", "nhead", "downscale_factor"), 2),
    **dict.fromkeys(("num_groups", "groups", "padding", "upscale_factor"), 1),
    **dict.fromkeys(("out_features", "out_channels", "hidden_size", "num_embeddings", "embedding_dim"), 5),
    **dict.fromkeys(("threshold", "value", "norm_type"), 2.0),
    **dict.fromkeys(("num_layers", "times", "num_heads"), 1),
    "unflattened_size": [1, -1],
}
# A layer that draws even in evaluation.
DRAWS = {"FractionalMaxPool2d", "FractionalMaxPool3d"}


def part(name: str, **parameters: Any) -> Part:
    return Part(name=name, **parameters)


def simplest(name: str) -> Part:
    """The layer with no more parameters than it needs."""
    needed = {p.name for p in catalog.layers()[name].parameters if p.required} & NEEDED.keys()
    if catalog.layers()[name].container:
        return part(name, layers=[part("ReLU")], **{key: NEEDED[key] for key in sorted(needed)})
    more = {
        "Permute": {"dims": [1, 0]},
        "Unflatten": {"dim": 1},
        "Upsample": {"scale_factor": 2.0},
        "Softmax": {"dim": -1},
    }.get(name, {})
    return part(name, **{key: NEEDED[key] for key in sorted(needed)}, **more)


def run(parts: list[Part], shape: tuple[int, ...], batch: int = 3) -> tuple[nn.Module, Tensor]:
    """The built module in evaluation, and its output for real numbers."""
    module = build_chain(parts, shape, SIZES).eval()
    return module, module(torch.randn(batch, *shape))


def fault(*parts: Part, shape: tuple[int, ...] = PICTURE) -> str:
    errors = [row.error for row in trace(parts, shape, SIZES) if row.error is not None]
    assert len(errors) == 1
    assert isinstance(errors[0], StudioError)
    return str(errors[0])


def test_sizes_follow_from_the_layer_above() -> None:
    parts = [
        part("Conv2d", out_channels=20, kernel_size=5),
        part("BatchNorm2d"),
        part("MaxPool2d", kernel_size=2),
        part("Flatten"),
        part("LayerNorm"),
        part("Linear", out_features="classes"),
    ]
    rows = trace(parts, (1, 28, 28), SIZES)
    assert [row.output for row in rows] == [(20, 24, 24), (20, 24, 24), (20, 12, 12), (2880,), (2880,), (10,)]
    assert [row.input for row in rows] == [(1, 28, 28), *(row.output for row in rows[:-1])]
    assert [row.parameters for row in rows] == [520, 40, 0, 0, 5760, 28810]


def test_a_size_that_is_given_is_kept() -> None:
    assert trace([part("Linear", in_features=6, out_features=2)], VECTOR, SIZES)[0].output == (2,)


@pytest.mark.parametrize("name", sorted(catalog.layers()))
@pytest.mark.parametrize("shape", [VECTOR, SERIES, PICTURE, VOLUME], ids=shape_text)
def test_traced_shapes_and_parameters_are_those_of_the_built_layer(name: str, shape: tuple[int, ...]) -> None:
    row = trace([simplest(name)], shape, SIZES)[0]
    if row.error is not None:
        assert "model.layers.0" in row.error.where
        return
    module, output = run([simplest(name)], shape)
    assert tuple(output.shape[1:]) == row.output
    assert count_parameters(module) == row.parameters


@pytest.mark.parametrize("name", sorted(catalog.layers()))
@pytest.mark.parametrize("shape", [VECTOR, SERIES, PICTURE], ids=shape_text)
def test_a_layer_that_fits_never_mixes_samples(name: str, shape: tuple[int, ...]) -> None:
    if name in DRAWS:
        pytest.skip("draws anew for each call")
    if name == "Softmax2d" and shape == SERIES:
        pytest.xfail("Softmax2d takes a batch of series for one picture")
    if trace([simplest(name)], shape, SIZES)[0].error is not None:
        return
    module, _ = run([simplest(name)], shape)
    inputs = torch.randn(3, *shape)
    other = torch.cat([torch.randn(1, *shape), inputs[1:]])
    assert torch.allclose(module(inputs)[1:], module(other)[1:], atol=1e-6, equal_nan=True)


def test_most_layers_fit_some_shape() -> None:
    # The twin of the two above: they would pass if nothing ever fitted.
    fits = 0
    for name in catalog.layers():
        rows = [trace([simplest(name)], shape, SIZES)[0] for shape in (VECTOR, SERIES, PICTURE, VOLUME)]
        fits += any(row.error is None for row in rows)
    assert fits > 0.9 * len(catalog.layers())


PLAIN = ["ReLU", "Flatten", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "Dropout", "GELU", "Softmax"]
STACKED = st.lists(
    st.one_of(
        st.builds(lambda name: part(name), st.sampled_from(PLAIN)),
        st.builds(
            lambda name, channels, kernel, stride: part(name, out_channels=channels, kernel_size=kernel, stride=stride),
            st.sampled_from(["Conv1d", "Conv2d", "ConvTranspose2d"]),
            st.integers(0, 4),
            st.integers(1, 5),
            st.integers(1, 3),
        ),
        st.builds(
            lambda name, kernel: part(name, kernel_size=kernel),
            st.sampled_from(["MaxPool1d", "MaxPool2d", "AvgPool2d", "Unfold"]),
            st.integers(1, 4),
        ),
        st.builds(lambda size: part("Linear", out_features=size), st.sampled_from([1, 2, 7, "classes", "targets"])),
        st.builds(lambda size: part("AdaptiveAvgPool2d", output_size=size), st.integers(1, 3)),
        st.builds(lambda name, size: part(name, hidden_size=size), st.sampled_from(["GRU", "LSTM"]), st.integers(1, 4)),
        st.builds(lambda first: part("Unflatten", dim=1, unflattened_size=[first, 2]), st.integers(-1, 4)),
        st.builds(lambda size: part("Linear", in_features=size, out_features=3), st.integers(1, 8)),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(STACKED, st.sampled_from([VECTOR, SERIES, PICTURE, (2, 2), (1,)]))
def test_any_stack_of_layers_is_traced_or_the_layer_at_fault_is_named(
    parts: list[Part], shape: tuple[int, ...]
) -> None:
    rows = trace(parts, shape, SIZES)
    assert len(rows) == len(parts)
    wrong = [index for index, row in enumerate(rows) if row.error is not None]
    if not wrong:
        module, output = run(parts, shape)
        assert tuple(output.shape[1:]) == rows[-1].output
        assert count_parameters(module) == sum(row.parameters for row in rows)
        return
    assert len(wrong) == 1
    error = rows[wrong[0]].error
    assert error is not None
    assert error.where.startswith(f"model.layers.{wrong[0]}")
    assert all(row.output is not None for row in rows[: wrong[0]])
    assert all(row.input is None and row.output is None for row in rows[wrong[0] + 1 :])
    with pytest.raises(StudioError) as caught:
        build_chain(parts, shape, SIZES)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            [part("Flatten"), part("Linear", in_features=100, out_features=10)],
            "model.layers.1: Linear expects 100 features, the layer above gives 192. Remove in_features",
        ),
        (
            [part("Conv2d", in_channels=1, out_channels=4, kernel_size=3)],
            "model.layers.0: Conv2d expects 1 channel, the data gives 3×8×8, which has 3.",
        ),
        (
            [part("Conv2d", out_channels=4, kernel_size=9)],
            "model.layers.0: a kernel of 9×9 does not fit into 3×8×8. Use a smaller kernel",
        ),
        (
            [part("Flatten"), part("MaxPool2d", kernel_size=2)],
            "model.layers.1: MaxPool2d needs pictures (channels × height × width), the layer above gives 192. Remove",
        ),
        ([part("BatchNorm1d")], "model.layers.0: BatchNorm1d needs series (channels × steps), the data gives 3×8×8. B"),
        ([part("Flatten"), part("AdaptiveAvgPool2d", output_size=1)], "model.layers.1: AdaptiveAvgPool2d needs pict"),
        ([part("MaxPool2d", kernel_size=3, dilation=4)], "model.layers.0: a kernel of 9×9 does not fit into 3×8×8."),
        (
            [part("LayerNorm", normalized_shape=64)],
            "model.layers.0: LayerNorm expects 64 features, the data gives 3×8×8, which has 8. Remove normalized_shape",
        ),
        (
            [part("LayerNorm", normalized_shape=[8, 16])],
            "model.layers.0: LayerNorm expects samples that end with 8×16, the data gives 3×8×8. Remove",
        ),
        ([part("Linear", out_features="targets")], "model.layers.0.out_features: this data has no targets."),
        ([part("Conv2D", out_channels=1)], "model.layers.0.name: torch has no layer 'Conv2D'"),
        ([part("ReLU"), part("Linear")], "model.layers.1.out_features: Linear needs it"),
        ([part("Dropout", p=3.0)], "model.layers.0: Dropout refuses its parameters: dropout probability"),
        ([part("Flatten", start_dim=0)], "model.layers.0: Flatten does not give one output a sample."),
        ([part("Flatten"), part("GRU", hidden_size=3)], "model.layers.1: GRU needs sequences (steps × feat"),
        ([part("GRU", hidden_size=3)], "model.layers.0: GRU needs sequences (steps × features), the data gives 3×8×8."),
        ([part("SequencePool")], "model.layers.0: SequencePool needs sequences"),
        ([part("Conv2d", out_channels=0, kernel_size=1)], "model.layers.0: Conv2d makes 0×8×8 of 3×8×8"),
        ([part("Softmax", dim=0)], "model.layers.0.dim: would be the batch: samples would mix. Write dim = -1."),
        ([part("Softmax", dim=-4)], "model.layers.0.dim: would be the batch"),
    ],
)  # fmt: skip
def test_a_mismatch_is_said_in_words(parts: list[Part], said: str) -> None:
    assert fault(*parts).startswith(said)


def test_softmax_over_a_sequence_must_say_its_dimension() -> None:
    # torch's implicit dimension of (B, T, C) is the batch.
    assert "samples would mix" in fault(part("Softmax"), shape=SERIES)
    assert trace([part("Softmax", dim=-1)], SERIES, SIZES)[0].error is None
    assert trace([part("Softmax")], VECTOR, SIZES)[0].error is None


def test_images_need_no_flatten_above_a_convolution() -> None:
    said = fault(part("Flatten"), part("Conv2d", out_channels=4, kernel_size=3))
    assert said.startswith("model.layers.1: Conv2d")


def test_of_a_recurrent_layer_the_sequence_goes_on() -> None:
    parts = [part("GRU", hidden_size=5, bidirectional=True), part("Flatten"), part("Linear", out_features="classes")]
    rows = trace(parts, SERIES, SIZES)
    assert [row.output for row in rows] == [(4, 10), (40,), (10,)]
    _, output = run(parts, SERIES)
    assert output.shape == (3, 10)


def test_recurrent_layers_take_the_batch_first() -> None:
    module, _ = run([part("LSTM", hidden_size=5)], SERIES)
    assert isinstance(module, nn.Sequential)
    assert module[0].batch_first is True
    assert "samples would mix" in fault(part("LSTM", hidden_size=5, batch_first=False), shape=SERIES)


def test_a_seed_means_the_same_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return next(build_chain([part("Linear", out_features=4)], VECTOR, SIZES).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_tracing_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    trace([part("Linear", out_features=4), part("Dropout"), part("BatchNorm1d")], VECTOR, SIZES)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_too_large_for_any_memory_is_traced() -> None:
    row = trace([part("Linear", out_features=10**9)], (10**6,), SIZES)[0]
    assert row.parameters == 10**15 + 10**9


def test_building_names_the_layer_at_fault() -> None:
    with pytest.raises(ModelError, match=r"model\.layers\.1: Linear expects 3 features"):
        build_chain([part("Flatten"), part("Linear", in_features=3, out_features=1)], PICTURE, SIZES)


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, layer)) == 12


def test_settings_read_as_one_writes_them() -> None:
    assert settings_text("Conv2d", {"out_channels": 20, "kernel_size": [3, 5], "padding": 2}) == "20, 3×5, padding=2"
    assert shape_text((3, 8, 8)) == "3×8×8"
    assert shape_text(()) == "scalar"
    assert shape_text(None) == "–"


def test_a_shape_in_torchs_words_does_not_show_the_batch_it_was_tried_with() -> None:
    rows = trace([part("PixelShuffle", upscale_factor=3)], Flow((4, 8, 8)), {})
    assert "[samples, 4, 8, 8]" in str(rows[0].error)
    assert "101" not in str(rows[0].error)


@pytest.mark.parametrize(("what", "text"), [("no.", "here: no."), ("no", "here: no."), ("no!", "here: no!")])
def test_what_is_wrong_ends_with_one_mark(what: str, text: str) -> None:
    assert str(ModelError("here", what)) == text
