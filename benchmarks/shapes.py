"""How long the model pane takes to know every shape again after one edit of a model of a hundred layers.

    python benchmarks/shapes.py [ROUNDS]

For each kind of edit: the median of the rounds in milliseconds, how many times as long the same model takes when
nothing is remembered (in the same round), and whether it keeps to the goal of 50 ms. No edit is made twice, so nothing
is remembered of what it changes.
"""

# A model is a hundred layers: in `plain` each is like the ones beside it, as in most networks; in `motley` none is.

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from engine.models import costs, traces
from engine.models.layers import trace
from engine.models.traces import Flow
from engine.recipe import Layer
from engine.recipe.tree import Tree, at, inserted, replaced

_GOAL_MS = 50
_SIZES = {"classes": 10, "vocabulary": 1000}
_PICTURE, _TEXT = Flow((3, 64, 64)), Flow((64,), torch.int64)

Edit = Callable[[Tree, int], Tree]


def layer(name: str, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters})


def convolutions(motley: bool) -> Tree:
    """24 × (Conv2d, BatchNorm2d, ReLU, Dropout2d), and a head."""
    body: list[Layer] = []
    for number in range(24):
        width = 32 + number if motley else 32 * 2 ** (number // 6)
        stride = 2 if number in (6, 12, 18) else 1
        convolution = layer("Conv2d", out_channels=width, kernel_size=3, padding=1, stride=stride, bias=False)
        body += [convolution, layer("BatchNorm2d"), layer("ReLU"), layer("Dropout2d", p=0.1)]
    head = [layer("AdaptiveAvgPool2d", output_size=1), layer("Flatten"), layer("Dropout")]
    return (*body, *head, layer("Linear", out_features="classes"))


def transformer(motley: bool) -> Tree:
    """24 × (TransformerEncoderLayer, LayerNorm, Linear, GELU) between an embedding and a head."""
    body = [layer("Embedding", embedding_dim=64, padding_idx=0), layer("PositionalEncoding")]
    for number in range(24):
        wide = 128 + number if motley else 128
        block = layer("TransformerEncoderLayer", nhead=4, dim_feedforward=wide)
        body += [block, layer("LayerNorm"), layer("Linear", out_features=64), layer("GELU")]
    return (*body, layer("SequencePool"), layer("Linear", out_features="classes"))


def changed(key: str, by: int = 1) -> Callable[[tuple[int, ...]], Edit]:
    def at_path(path: tuple[int, ...]) -> Edit:
        def edit(tree: Tree, number: int) -> Tree:
            old = at(tree, path)
            value = old.parameters.get(key, 0)
            new = {**old.parameters, key: (value if isinstance(value, int) else 10) + by * (number + 1)}
            return replaced(tree, path, layer(old.name, **new))

        return edit

    return at_path


def added(path: tuple[int, ...], name: str, **parameters: Any) -> Edit:
    return lambda tree, number: inserted(tree, path, layer(name, **parameters))


def works() -> Iterator[tuple[str, Flow, Tree, str, Edit]]:
    for motley in (False, True):
        kind = "motley" if motley else "plain"
        tree = convolutions(motley)
        yield f"{kind} convolutions", _PICTURE, tree, "last layer", changed("out_features")((99,))
        yield f"{kind} convolutions", _PICTURE, tree, "first layer's width", changed("out_channels")((0,))
        yield f"{kind} convolutions", _PICTURE, tree, "first layer's padding", changed("padding")((0,))
        yield f"{kind} convolutions", _PICTURE, tree, "pooling in the middle", added((48,), "MaxPool2d", kernel_size=2)
        tree = transformer(motley)
        yield f"{kind} transformer", _TEXT, tree, "last layer", changed("out_features")((99,))
        yield f"{kind} transformer", _TEXT, tree, "first layer's width", changed("embedding_dim", 4)((0,))
        yield f"{kind} transformer", _TEXT, tree, "a block in the middle", changed("dim_feedforward", 64)((50,))
        more = added((50,), "GRU", hidden_size=63)
        yield f"{kind} transformer", _TEXT, tree, "a GRU in the middle", more
    large = (*transformer(False)[:2], layer("TransformerEncoder", nhead=4, num_layers=12), *transformer(False)[-2:])
    yield "12 encoder layers in one", _TEXT, large, "feedforward width", changed("dim_feedforward", 64)((2,))


def timed(tree: Tree, flow: Flow) -> float:
    """Milliseconds of this thread alone: others may be busy."""
    begin = time.thread_time()
    trace(tree, flow, _SIZES)
    return (time.thread_time() - begin) * 1e3


def forget() -> None:
    traces._memory.clear()
    traces._modules.clear()
    costs._known.clear()


def main(rounds: int) -> None:
    print(f"{'model':<26}{'edit':<24}{'ms':>7}{'anew ms':>9}{'anew / edit':>13}")
    late = 0
    for model, flow, tree, what, edit in works():
        after, anew = [], []
        trace(tree, flow, _SIZES)  # what torch loads when it is first used is not counted
        for number in range(rounds):
            forget()
            anew.append(timed(tree, flow))
            after.append(timed(edit(tree, number), flow))
        took = statistics.median(after)
        ratio = statistics.median(a / b for a, b in zip(anew, after, strict=True))
        late += took > _GOAL_MS
        mark = "  late" if took > _GOAL_MS else ""
        print(f"{model:<26}{what:<24}{took:>7.1f}{statistics.median(anew):>9.1f}{ratio:>13.1f}{mark}")
    print(f"{late} kinds of edit take more than {_GOAL_MS} ms" if late else f"all within {_GOAL_MS} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
