"""Costs that are told before a step is run are those of the step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from engine.models import costs
from engine.models.layers import build_chain, trace
from engine.models.modules import module_rows
from engine.models.rows import LayerRow, count_parameters
from engine.models.traces import Flow
from engine.recipe import Layer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"classes": 10, "vocabulary": 100}
BATCH = 16


def layer(name: str, *layers: Layer, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters, "layers": layers})


def block(wide: int, stride: int) -> list[Layer]:
    conv = {"out_channels": wide, "kernel_size": 3, "padding": 1, "bias": False}
    norm, relu = layer("BatchNorm2d"), layer("ReLU")
    body = (layer("Conv2d", stride=stride, **conv), norm, relu, layer("Conv2d", **conv), norm)
    return [layer("Residual", *body), relu]


RESNET18 = (
    layer("Conv2d", out_channels=64, kernel_size=7, stride=2, padding=3, bias=False),
    *(layer("BatchNorm2d"), layer("ReLU"), layer("MaxPool2d", kernel_size=3, stride=2, padding=1)),
    *(each for wide in (64, 128, 256, 512) for stride in (1 + (wide > 64), 1) for each in block(wide, stride)),
    *(layer("AdaptiveAvgPool2d", output_size=1), layer("Flatten"), layer("Linear", out_features="classes")),
)
HEAD = layer("Linear", out_features=10)
TEXT = (layer("Embedding", embedding_dim=32, padding_idx=0), layer("PositionalEncoding"))
ENCODER = layer("TransformerEncoder", nhead=4, num_layers=2, dim_feedforward=64)
RELU = layer("ReLU")
MODELS: dict[str, tuple[tuple[Layer, ...], Flow]] = {
    "resnet18": (RESNET18, Flow((3, 64, 64))),
    "perceptron": ((layer("Flatten"), layer("Linear", out_features=50), RELU, layer("Dropout"), HEAD), Flow((3, 8, 8))),
    "convolutions": (
        (layer("Conv2d", out_channels=8, kernel_size=3), layer("GELU"), layer("Dropout2d"),
         layer("MaxPool2d", kernel_size=2), layer("GroupNorm", num_groups=2), layer("SiLU"), layer("Flatten"), HEAD),
        Flow((3, 16, 16)),
    ),
    "gru": ((layer("GRU", hidden_size=32, returns="last"), HEAD), Flow((20, 16))),
    "bidirectional": (
        (layer("GRU", hidden_size=32, num_layers=2, bidirectional=True, returns="mean"), HEAD), Flow((20, 16))
    ),
    "transformer": ((*TEXT, ENCODER, layer("SequencePool"), HEAD), Flow((20,), torch.int64)),
    "first step": ((layer("SequencePool", keep="first"), HEAD), Flow((20, 16))),
    "branches": (
        (layer("Parallel", RELU, layer("Conv2d", out_channels=4, kernel_size=1), RELU),
         layer("Conv2d", out_channels=4, kernel_size=1)), Flow((3, 16, 16))),
    "branches inside": (
        (layer("Linear", out_features=64), layer("Parallel", RELU, HEAD, RELU), HEAD), Flow((64,))),
    "shortcut after relu": ((layer("Residual", layer("Linear", out_features=64), RELU), HEAD), Flow((64,))),
    "rounds": ((layer("Repeat", layer("Linear", out_features=64), layer("Tanh"), times=5), HEAD), Flow((64,))),
}  # fmt: skip


def kept_by(model: nn.Module, inputs: Tensor) -> float:
    """Bytes a sample that autograd holds after a forward pass, weights left out."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    held: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            held[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(inputs)
    return sum(storage.nbytes() for storage in held.values()) / len(inputs)


def flops_of(model: nn.Module, inputs: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    return counter.get_total_flops() / len(inputs)


def made(flow: Flow) -> Tensor:
    floats = flow.dtype.is_floating_point
    return torch.randn(BATCH, *flow.shape) if floats else torch.randint(1, 100, (BATCH, *flow.shape))


def total(rows: list[LayerRow], what: str) -> float:
    return float(sum(getattr(row, what) for row in rows if row.outermost))


@pytest.mark.parametrize("name", MODELS)
def test_memory_kept_for_the_backward_pass_is_what_autograd_keeps(name: str) -> None:
    """Within 2 %: what batch norm keeps of a whole batch counts for one sample, and 101 samples share it here."""
    layers, flow = MODELS[name]
    rows = trace(layers, flow, SIZES)
    real = kept_by(build_chain(layers, flow, SIZES), made(flow))
    assert total(rows, "kept") == pytest.approx(real, rel=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_floating_point_operations_are_those_of_torchs_own_count(name: str) -> None:
    layers, flow = MODELS[name]
    rows = trace(layers, flow, SIZES)
    model = build_chain(layers, flow, SIZES)
    assert total(rows, "flops") == flops_of(model, made(flow)) > 0
    assert total(rows, "parameters") == count_parameters(model)


def test_a_resnet_written_in_layers_is_torchvisions() -> None:
    theirs = models.resnet18(num_classes=10)
    rows = trace(RESNET18, (3, 224, 224), SIZES)
    assert total(rows, "parameters") == count_parameters(theirs)
    assert total(rows, "flops") == flops_of(theirs, torch.zeros(1, 3, 224, 224))
    assert total(rows, "kept") == pytest.approx(kept_by(theirs, torch.zeros(2, 3, 224, 224)), rel=0.02)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit_b_16"])
def test_rows_of_any_module_tell_its_whole_cost(name: str) -> None:
    with torch.device("meta"):
        rows = module_rows(models.get_model(name, num_classes=10), Flow((3, 224, 224)))
    theirs = models.get_model(name, num_classes=10)
    assert total(rows, "parameters") == count_parameters(theirs)
    assert total(rows, "flops") == flops_of(theirs, torch.zeros(1, 3, 224, 224))


def looks(result: Any) -> list[tuple[Any, ...]]:
    tensors = result if isinstance(result, tuple) else (result,)
    return [(each.shape, each.stride(), each.dtype) for each in tensors]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [True, False])
def test_shapes_told_by_hand_are_those_that_torch_finds_on_the_meta_device(
    memory_format: torch.memory_format, training: bool
) -> None:
    ops, empty = torch.ops.aten, torch.empty((5, 4, 3, 2), device="meta").to(memory_format=memory_format)
    four = torch.empty(4, device="meta")
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (ops.native_batch_norm.default, (empty, four, four, four, four, training, 0.1, 1e-5)),
        (ops.native_batch_norm.default, (empty[:, :, 0], None, None, four, four, training, 0.1, 1e-5)),
        (ops.native_layer_norm.default, (empty, [3, 2], None, None, 1e-5)),
        (ops.native_layer_norm.default, (empty, [2], None, None, 1e-5)),
        (ops.native_group_norm.default, (empty, four, four, 5, 4, 6, 2, 1e-5)),
        (ops.relu.default, (empty,)),
        (ops.sigmoid.default, (empty.long(),)),
        (ops.mul.Tensor, (empty, torch.empty(5, 4, 1, 1, device="meta"))),
        (ops.mul.Tensor, (torch.empty(5, 1, 3, 2, device="meta"), torch.empty(5, 4, 1, 1, device="meta"))),
        (ops.mul.Tensor, (empty, 2.0)),
        (ops.add.Tensor, (empty, four[:2])),
        (ops.add.Tensor, (empty, empty.double())),
    ]
    short = 0
    for func, arguments in calls:
        plain = func(*arguments)
        short += costs._SHAPES[func](*arguments) is not None
        with costs.Tally():
            ours = func(*arguments)
        assert looks(ours) == looks(plain)
    assert (short > 0) is (memory_format is torch.contiguous_format)


def test_what_a_layer_with_a_wrong_norm_is_told_does_not_depend_on_what_was_done_before() -> None:
    rows = [trace([layer("LayerNorm", normalized_shape=[3])], (4, 6), SIZES)[0] for _ in range(2)]
    assert rows[0].error is not None
    assert str(rows[0].error) == str(rows[1].error)


def test_an_operation_that_is_done_again_costs_as_much() -> None:
    linear, empty = nn.Linear(4, 8, device="meta"), torch.empty(3, 4, device="meta")
    counts = []
    for _ in range(3):
        tally = costs.Tally()
        with tally.of(linear):
            output = linear(empty)
        assert output.shape == (3, 8)
        assert output.requires_grad
        counts.append((tally.flops, tally.kept))
    assert counts == [(3 * 4 * 8 * 2, 3 * 4 * 4)] * 3
