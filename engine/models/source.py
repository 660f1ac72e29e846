"""A recipe's layers → the Python code of an nn.Module, with the sizes filled in and the shapes beside the layers.

The module's state_dict has the names of the one that torch-tui builds: each takes the other's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from engine import catalog
from engine.code import arguments, literal, spread
from engine.models import sequences
from engine.models.layers import Node, plan
from engine.models.rows import Shape, shape_text
from engine.models.traces import Flow
from engine.recipe import Layer

# What can do something with the lengths of sequences.
_USE_LENGTHS = frozenset(name for name, item in vars(sequences).items() if getattr(item, "takes_lengths", False))
# Layers of torch that return two tensors where the first goes on, as a Chain sees to; nn.Sequential does not.
_SEVERAL = ("LSTMCell",)


@dataclass(frozen=True)
class ModelCode:
    """The class `Model`, and the classes of ours that it needs. `padded`: those that know the lengths of sequences."""

    lines: tuple[str, ...]
    needs: frozenset[str]
    padded: bool


def model_code(parts: Sequence[Layer], flow: Flow | Shape, sizes: Mapping[str, int]) -> ModelCode:
    """The layers as the class `Model`. Raises RecipeError or ModelError."""
    nodes = plan(parts, flow, sizes)
    used = list(_all(nodes))
    padded = any(_tells_lengths(node) for node in used) and any(node.row.name in _USE_LENGTHS for node in used)
    writer = _Writer(padded)
    shape = flow.shape if isinstance(flow, Flow) else flow
    count = sum(node.row.parameters for node in nodes)
    about = f"{shape_text(shape)} → {shape_text(nodes[-1].row.output)}, {count:,} parameters."
    lines = [
        f"class Model({writer.chain}):",
        f'    """{about}"""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__(",
        *(line for node in nodes for line in writer.layer(node, 12)),
        "        )",
    ]
    return ModelCode(tuple(lines), frozenset(writer.needs), padded)


class _Writer:
    """Writes layers as arguments of the module that holds them."""

    def __init__(self, padded: bool) -> None:
        self._padded = padded
        self.needs: set[str] = set()

    @property
    def chain(self) -> str:
        """The class of layers in a row."""
        if not self._padded:
            return "nn.Sequential"
        self.needs.add("Chain")
        return "Chain"

    def layer(self, node: Node, indent: int) -> list[str]:
        """The lines of one layer."""
        if node.row.container:
            return self._container(node, indent)
        entry = catalog.layers()[node.row.name]
        # Of a layer that returns two tensors the first goes on.
        values = {name: value for name, value in node.values.items() if name != "return_indices"}
        after = f",  # {shape_text(node.row.output)}"
        if node.row.name == "TransformerEncoder" and not self._padded:
            layers = arguments(entry, {name: value for name, value in values.items() if name != "num_layers"})
            layer = f"nn.TransformerEncoderLayer({', '.join(layers)})"
            written = [layer, f"num_layers={literal(values['num_layers'])}", "enable_nested_tensor=False"]
            return spread("nn.TransformerEncoder", written, indent, after=after)
        return spread(self._name(node.row.name), arguments(entry, values), indent, after=after)

    def _name(self, name: str) -> str:
        """What a layer is called: torch's own, or a class that the file has."""
        ours = catalog.layers()[name].target.__module__ in {module.__name__ for module in catalog.OURS}
        if not self._padded:
            ours = (ours and name != "TransformerEncoderLayer") or name in _SEVERAL
        if not ours:
            return f"nn.{name}"
        self.needs.add(name)
        return name

    def _container(self, node: Node, indent: int) -> list[str]:
        name, space = node.row.name, " " * indent
        inner, more = indent + 4, list[str]()
        if name in ("Sequential", "Repeat"):
            opening = self.chain
        else:
            self.needs.add(name)
            opening = name
        if name == "Repeat":
            held = self._rounds(node, inner)
        else:
            held = [line for part in node.parts for line in self.layer(part, inner)]
        if node.shortcut:
            more += [f"{' ' * inner}shortcut={self.chain}("]
            more += [line for part in node.shortcut for line in self.layer(part, inner + 4)]
            more += [f"{' ' * inner}),"]
        if name == "Parallel":
            more += [f"{' ' * inner}{each}," for each in _joins(node)]
        return [f"{space}{opening}(", *held, *more, f"{space}),  # {shape_text(node.row.output)}"]

    def _rounds(self, node: Node, indent: int) -> list[str]:
        """The rounds of a Repeat: those that are written alike, in a row, are written once."""
        size, space = len(node.inner), " " * indent
        rounds = [node.parts[first : first + size] for first in range(0, len(node.parts), size)]
        written = [tuple(line for part in each for line in self.layer(part, indent + 12)) for each in rounds]
        lines = []
        for alike, group in groupby(written):
            count = len(list(group))
            if count == 1:
                lines += [line[12:] for line in alike]
                continue
            lines += [
                f"{space}*(",
                f"{space}    layer",
                f"{space}    for _ in range({count})  # each time with weights of their own",
                f"{space}    for layer in (",
                *(line[4:] for line in alike),
                f"{space}    )",
                f"{space}),",
            ]
        return lines


def _joins(node: Node) -> list[str]:
    """How the branches of a Parallel are joined: the dimension that our own leaves open is said."""
    join = node.values.get("join", "concat")
    if join == "add":
        return ['join="add"']
    dim = node.values.get("dim")
    if dim is None:
        dim = 1 if len(node.row.output or ()) > 2 else -1
    return [f"dim={dim}"]


def _tells_lengths(node: Node) -> bool:
    return node.row.name == nn.Embedding.__name__ and node.values.get("padding_idx") is not None


def _all(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _all(node.parts)
