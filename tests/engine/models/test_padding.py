"""The padding of sequences takes no part, wherever an Embedding says what it is; and recurrent layers stay torch's."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.models.blocks import Chain
from engine.models.layers import build_chain
from engine.models.recompute import recompute
from engine.models.sequences import GRU, LSTM, MultiheadAttention, PositionalEncoding, TransformerEncoderLayer
from engine.models.traces import Flow
from engine.recipe import Layer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"classes": 10, "vocabulary": 30}
FLOW = Flow((12,), torch.int64)
WIDE = 8


def layer(name: str, *layers: Layer, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters, "layers": layers})


LAST, MEAN, GREATEST = (layer("SequencePool", keep=keep) for keep in ("last", "mean", "max"))
ATTENTION = layer("MultiheadAttention", num_heads=2)
BLOCK = layer("TransformerEncoderLayer", nhead=2, dim_feedforward=16, dropout=0.0)
STACK = layer("TransformerEncoder", nhead=2, num_layers=2, dim_feedforward=16, dropout=0.0)


def recurrent(name: str, returns: str) -> Layer:
    return layer(name, hidden_size=4, num_layers=2, bidirectional=True, returns=returns)


BODIES: dict[str, tuple[Layer, ...]] = {
    **{f"{name} {back}": (recurrent(name, back),) for name in ("GRU", "LSTM", "RNN") for back in ("last", "mean")},
    **{f"{name} sequence": (recurrent(name, "sequence"), MEAN) for name in ("GRU", "LSTM")},
    "mean": (MEAN,),
    "greatest": (GREATEST,),
    "last": (LAST,),
    "attention": (ATTENTION, MEAN),
    "block": (BLOCK, GREATEST),
    "stack": (layer("PositionalEncoding"), STACK, LAST),
    "residual": (layer("Residual", layer("LayerNorm"), ATTENTION), MEAN),
    "parallel": (layer("Parallel", ATTENTION, recurrent("GRU", "sequence"), layer("Linear", out_features=3)), MEAN),
    "repeat": (layer("Repeat", BLOCK, layer("Linear", out_features=WIDE), times=2), MEAN),
    "sequential": (layer("Sequential", layer("Sequential", layer("GELU"), BLOCK), layer("Dropout", p=0.0)), LAST),
    "two pools": (layer("Parallel", MEAN, GREATEST, recurrent("GRU", "last")),),
}
EMBEDDED = layer("Embedding", embedding_dim=WIDE, padding_idx=0)
STARTS = {
    "plain": (EMBEDDED,),
    "in a box": (layer("Sequential", EMBEDDED, layer("Dropout", p=0.0)),),
    "side by side": (layer("Parallel", EMBEDDED, layer("Embedding", embedding_dim=WIDE, padding_idx=0), join="add"),),
}


def model(*layers: Layer, again: bool = False) -> Chain:
    torch.manual_seed(0)
    made = build_chain(layers, FLOW, SIZES)
    if again:
        recompute(made)
    return made


def padded(steps: int, length: int) -> Tensor:
    """Three sequences of different lengths, the longest of `steps`, in `length` steps."""
    tokens = torch.randint(1, 30, (3, steps), generator=torch.Generator().manual_seed(1))
    tokens[1, steps - 1 :] = 0
    tokens[2, 2:] = 0
    return nn.functional.pad(tokens, (0, length - steps))


def results(made: nn.Module, tokens: Tensor) -> list[Tensor]:
    """The output, and the gradient of every weight."""
    made.zero_grad()
    output = made(tokens)
    (output.square().sum() + output.sum()).backward()
    return [output.detach(), *(p.grad.clone() for p in made.parameters() if p.grad is not None)]


def alike(first: list[Tensor], second: list[Tensor]) -> bool:
    close = (torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(first, second, strict=True))
    return all(close)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("body", BODIES)
def test_outputs_and_gradients_do_not_depend_on_padding(body: str, start: str, training: bool) -> None:
    made = model(*STARTS[start], *BODIES[body]).train(training)
    assert alike(results(made, padded(5, 5)), results(made, padded(5, 12)))
    with torch.no_grad():  # torch has faster ways through attention then
        assert torch.allclose(made(padded(5, 5)), made(padded(5, 12)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("body", BODIES)
def test_without_a_padding_idx_they_do(body: str) -> None:
    made = model(layer("Embedding", embedding_dim=WIDE), *BODIES[body])
    short, long = results(made, padded(5, 5)), results(made, padded(5, 12))
    assert not alike(short, long)


@pytest.mark.parametrize("body", BODIES)
def test_recomputed_layers_know_of_the_padding_too(body: str) -> None:
    plain, again = model(EMBEDDED, *BODIES[body]), model(EMBEDDED, *BODIES[body], again=True)
    for length in (5, 12):
        first, second = results(plain, padded(5, length)), results(again, padded(5, length))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("body", BODIES)
def test_a_sequence_of_nothing_but_padding_has_finite_outputs_and_gradients(body: str) -> None:
    tokens = padded(5, 12)
    tokens[1] = 0
    for each in results(model(EMBEDDED, *BODIES[body]), tokens):
        assert each.isfinite().all()


def lengths_seen(*layers: Layer) -> list[int] | None:
    """What the last layer is given."""
    seen: list[Tensor | None] = []
    made = build_chain(layers, FLOW, SIZES)
    made[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1] if len(inputs) > 1 else None))
    made(padded(5, 12))
    return None if seen[0] is None else seen[0].tolist()


TURNED = layer("Permute", dims=[1, 0])
TWELVE = layer("Embedding", embedding_dim=12, padding_idx=0)  # as wide as the sequences are long: shapes tell nothing


def test_lengths_end_where_steps_move() -> None:
    assert lengths_seen(TWELVE, layer("LayerNorm"), layer("Linear", out_features=12), MEAN) == [5, 4, 2]
    assert lengths_seen(TWELVE, TURNED, MEAN) is None
    assert lengths_seen(TWELVE, layer("Conv1d", out_channels=12, kernel_size=1), MEAN) is None
    assert lengths_seen(TWELVE, layer("Sequential", TURNED), MEAN) is None
    assert (
        lengths_seen(TWELVE, layer("Sequential", MEAN, layer("Unflatten", dim=1, unflattened_size=[12, 1])), MEAN)
        is None
    )
    assert lengths_seen(TWELVE, layer("Residual", TURNED), MEAN) is None
    assert lengths_seen(TWELVE, layer("Parallel", layer("ReLU"), TURNED, join="add"), MEAN) is None


@pytest.mark.parametrize(("ours", "theirs"), [(GRU, nn.GRU), (LSTM, nn.LSTM)])
def test_weights_are_those_of_torchs_own_layer(ours: Any, theirs: Any) -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    mine, torchs = ours(5, 4, **options, returns="last"), theirs(5, 4, **options)
    assert list(mine.state_dict()) == list(torchs.state_dict())
    mine.load_state_dict(torchs.state_dict())
    inputs = torch.randn(3, 6, 5)
    sequence, state = torchs(inputs)
    hidden = state[0] if isinstance(state, tuple) else state
    assert torch.equal(mine(inputs), torch.cat([hidden[-2], hidden[-1]], 1))
    mine.returns = "mean"
    assert torch.allclose(mine(inputs), sequence.mean(1))


def test_attention_layers_keep_torchs_names() -> None:
    assert list(MultiheadAttention(4, 2).state_dict()) == list(nn.MultiheadAttention(4, 2).state_dict())
    ours, torchs = TransformerEncoderLayer(4, 2, 8), nn.TransformerEncoderLayer(4, 2, 8)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    torchs_stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDE, 2, 16), 2, enable_nested_tensor=False)
    assert [f"1.{key}" for key in torchs_stack.state_dict()] == list(model(EMBEDDED, STACK).state_dict())[1:]


@pytest.mark.parametrize("body", BODIES)
def test_copies_give_the_same(body: str) -> None:
    made = model(EMBEDDED, *BODIES[body]).eval()
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(made(padded(5, 12)), other(padded(5, 12)))


@pytest.mark.parametrize("body", ["attention", "GRU last", "two pools"])
def test_a_compiled_model_gives_the_same(body: str) -> None:
    made = model(EMBEDDED, *BODIES[body]).eval()
    torch._dynamo.reset()
    compiled = torch.compile(
        made, backend="aot_eager"
    )  # all of the compiler but the code that it writes, which is slow
    assert torch.allclose(made(padded(5, 12)), compiled(padded(5, 12)), atol=1e-5)


@pytest.mark.parametrize("wide", [6, 7, 1])
def test_places_are_told_by_the_papers_formula(wide: int) -> None:
    places = PositionalEncoding(wide, 50).places
    for position in (0, 1, 13, 49):
        for i in range(wide):
            angle = position / 10_000 ** (2 * (i // 2) / wide)
            assert places[position, i] == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-5)
    short = torch.randn(2, 9, wide)
    assert torch.equal(PositionalEncoding(wide, 50)(short), short + places[:9])


def test_learned_places_are_weights_and_told_ones_are_not() -> None:
    assert list(PositionalEncoding(4, 9, kind="learned").state_dict()) == ["places"]
    assert list(PositionalEncoding(4, 9).state_dict()) == []
