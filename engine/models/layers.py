"""A recipe's layers → a module, with the sizes that follow from the layer above filled in and every shape known.

What each layer makes of what reaches it is found in engine.models.traces.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from engine import catalog
from engine.catalog import FROM_DATA, FROM_SHAPE, SIZES, Entry, as_tuples
from engine.errors import ModelError, RecipeError, StudioError
from engine.models.blocks import Chain, joined
from engine.models.columns import of_codes
from engine.models.rows import LayerRow, Shape, settings_text, shape_text
from engine.models.traces import META, SAMPLES, Flow, giver, made_of, of_tokens
from engine.recipe import DEEPEST, Layer
from engine.recipe.tree import walk

_MOST_REPEATED = 5000  # layers that one Repeat makes; ResNet-1001 has half as many


@dataclass(frozen=True)
class Node:
    """A layer of the plan: its row, those of what it holds, and how its module is made.

    `values` are its parameters, complete; `parts` are what a container's module is made of, all rounds of a Repeat
    included; `shortcut` is a Residual's projection.
    """

    row: LayerRow
    inner: tuple[Node, ...] = ()
    make: Callable[[], nn.Module] = nn.Identity
    values: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Node, ...] = ()
    shortcut: tuple[Node, ...] = ()

    def rows(self) -> Iterator[LayerRow]:
        """Its row and all below it."""
        yield self.row
        for node in self.inner:
            yield from node.rows()


def trace(parts: Sequence[Layer], flow: Flow | Shape, sizes: Mapping[str, int]) -> list[LayerRow]:
    """A row for each layer, a container before what it holds. After the first layer at fault the rest have no shapes.

    `flow` is one sample's input; `sizes` gives symbolic values such as `classes`.
    """
    nodes, _ = _Plan(sizes).chain(parts, _flow(flow), ())
    return [row for node in nodes for row in node.rows()]


def build_chain(parts: Sequence[Layer], flow: Flow | Shape, sizes: Mapping[str, int]) -> Chain:
    """The layers as a module with real, freshly initialised weights on the CPU. Raises RecipeError or ModelError."""
    return Chain(*(node.make() for node in plan(parts, flow, sizes)))


def plan(parts: Sequence[Layer], flow: Flow | Shape, sizes: Mapping[str, int]) -> list[Node]:
    """The layers with every parameter filled in. Raises RecipeError or ModelError of the first that is at fault."""
    nodes, _ = _Plan(sizes).chain(parts, _flow(flow), ())
    for node in nodes:
        for row in node.rows():
            if row.error is not None:
                raise row.error
    return nodes


class _Plan:
    """Follows a flow through layers, with the parameters that it gives filled in."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self._kept: set[int] = set()
        self._memories = itertools.count(1)  # 0 is the data's

    def chain(
        self, parts: Sequence[Layer], flow: Flow | None, above: tuple[int, ...]
    ) -> tuple[list[Node], Flow | None]:
        nodes = []
        for position, part in enumerate(parts):
            node, flow = self.node(part, flow, (*above, position))
            nodes.append(node)
        return nodes, flow

    def node(self, part: Layer, flow: Flow | None, path: tuple[int, ...]) -> tuple[Node, Flow | None]:
        """The layer at `path`, and what leaves it; None where nothing does."""
        where = place(path)
        known = catalog.layers().get(part.name)
        container = known is not None and known.container
        shown = settings_text(part.name, part.parameters)
        row = LayerRow(part.name, shown, flow.shape if flow else None, None, 0, path=path, container=container)
        if flow is None:
            return Node(row, self._unknown(part, path)), None
        try:
            if part.layers and len(path) > DEEPEST:
                raise ModelError(where, f"layers are nested more than {DEEPEST} deep", "Take some out of the others.")
            entry = catalog.find("layer", catalog.layers(), part.name, where)
            if entry.container:
                return self._container(entry, part, flow, row)
            if part.layers:
                raise RecipeError(f"{where}.layers", f"{part.name} holds no layers", "Put them after it.")
            values = complete(entry, part.parameters, flow, self.sizes, where)
            traced = made_of(entry, values, flow, part, where)
        except StudioError as error:
            return Node(replace(row, error=error), self._unknown(part, path)), None
        out = (
            replace(traced.output, memory=flow.memory, held=flow.bytes, codes=flow.codes)
            if traced.is_view
            else self._new(traced.output)
        )
        kept = traced.inner
        for keeps, end in ((traced.keeps_input, flow), (traced.keeps_output, out)):
            if keeps and end.memory not in self._kept:
                self._kept.add(end.memory)
                kept += end.bytes
        row = replace(row, output=out.shape, parameters=traced.parameters, flops=traced.flops, kept=kept)
        return Node(row, (), partial(entry.make, values, where), values), out

    def _new(self, flow: Flow) -> Flow:
        """The same in memory of its own."""
        return replace(flow, memory=next(self._memories))

    def _unknown(self, part: Layer, path: tuple[int, ...]) -> tuple[Node, ...]:
        """What a layer holds that nothing reaches."""
        return tuple(self.chain(part.layers, None, path)[0]) if len(path) <= DEEPEST else ()

    def _container(self, entry: Entry, part: Layer, flow: Flow, row: LayerRow) -> tuple[Node, Flow | None]:
        where = place(row.path)
        if not part.layers:
            raise ModelError(where, f"{part.name} is empty", "Add a layer to it, or remove it.")
        values = complete(entry, part.parameters, flow, self.sizes, where)
        follow = {"Parallel": self._side_by_side, "Repeat": self._rounds, "Residual": self._around}
        return follow.get(entry.name, self._in_a_row)(entry, values, part, flow, row)

    def _in_a_row(
        self, entry: Entry, values: dict[str, Any], part: Layer, flow: Flow, row: LayerRow
    ) -> tuple[Node, Flow | None]:
        nodes, out = self.chain(part.layers, flow, row.path)
        return _holding(entry, values, row, nodes, nodes, out), out

    def _rounds(
        self, entry: Entry, values: dict[str, Any], part: Layer, flow: Flow, row: LayerRow
    ) -> tuple[Node, Flow | None]:
        times, most = values["times"], _MOST_REPEATED // self._count(part.layers)
        if not 1 <= times <= most:
            remedy = f"Write 1 to {most}." if most > 1 else "Remove layers, or the Repeat."
            raise ModelError(f"{place(row.path)}.times", f"{times} rounds can't be made", remedy)
        shown, out = self.chain(part.layers, flow, row.path)
        everything = list(shown)
        for made in range(1, times):
            if out is None:
                break
            before = out
            nodes, out = self.chain(part.layers, before, row.path)
            everything += nodes
            if out is None:
                shown = nodes  # the round that fails is the one to look at
            elif out.like(before):
                everything += nodes * (times - made - 1)  # all that follow are like this one
                break
        return _holding(entry, values, row, shown, everything, out), out

    def _count(self, parts: Sequence[Layer]) -> int:
        """How many layers are made of `parts`, at most a few more than may be."""
        count = 0
        for part in parts:
            times = part.parameters.get("times", 1) if part.name == "Repeat" else 1
            times = self.sizes.get(times, times) if isinstance(times, str) else times
            count += 1 + self._count(part.layers) * (max(0, times) if isinstance(times, int) else 1)
        return count

    def _around(
        self, entry: Entry, values: dict[str, Any], part: Layer, flow: Flow, row: LayerRow
    ) -> tuple[Node, Flow | None]:
        if not flow.dtype.is_floating_point:
            raise ModelError(
                place(row.path), f"{part.name} needs numbers, tokens reach it", "Add an Embedding above it."
            )
        if flow.codes:
            raise of_codes(part.name, place(row.path))
        nodes, out = self.chain(part.layers, flow, row.path)
        if out is None:
            return _holding(entry, values, row, nodes, nodes, None), None
        given = self._new(Flow(out.shape, out.dtype, out.learns or flow.learns))
        if out.shape == flow.shape:
            return _holding(entry, values, row, nodes, nodes, given), given
        what = f"adds {shape_text(flow.shape)} to the {shape_text(out.shape)} that its layers give"
        refused = ModelError(place(row.path), what, "Let both be the same, or set projection = auto.")
        if values.get("projection", "auto") == "none":
            return Node(replace(row, error=refused), tuple(nodes)), None
        shortcut, reached = self.chain(projection(flow.shape, out.shape, part.layers), flow, row.path)
        if reached is None or reached.shape != out.shape:
            return Node(replace(row, error=_hopeless(refused)), tuple(nodes)), None
        node = _holding(entry, values, row, nodes, [*nodes, *shortcut], given)

        def make() -> nn.Module:
            module: nn.Module = entry.make(values, place(row.path), *(node.make() for node in nodes))
            module.shortcut = Chain(*(node.make() for node in shortcut))
            return module

        through = " + ".join(each.row.name for each in shortcut)
        settings = ", ".join(filter(None, (row.settings, f"shortcut {through}")))
        row = replace(node.row, settings=settings)
        return replace(node, make=make, row=row, parts=tuple(nodes), shortcut=tuple(shortcut)), given

    def _side_by_side(
        self, entry: Entry, values: dict[str, Any], part: Layer, flow: Flow, row: LayerRow
    ) -> tuple[Node, Flow | None]:
        where, nodes, outs = place(row.path), list[Node](), list[Flow]()
        mixed = ModelError(f"{where}.dim", "would be the batch: samples would mix", "Write dim = 1 or dim = -1.")
        dim, join = values.get("dim"), values.get("join", "concat")
        if dim == 0:
            raise mixed
        reached: Flow | None = flow
        for position, branch in enumerate(part.layers):  # those after the one at fault have no shapes
            node, out = self.node(branch, reached, (*row.path, position))
            nodes.append(node)
            outs += [out] if out is not None else []
            reached = flow if out is not None else None
        if reached is None:
            return _holding(entry, values, row, nodes, nodes, None), None
        if any(out.codes for out in outs):  # a branch that passes them on
            return Node(replace(row, error=of_codes(part.name, where)), tuple(nodes)), None
        blank = [torch.empty(SAMPLES, *out.shape, device=META, dtype=out.dtype) for out in outs]
        error = None
        try:
            together = joined(blank, join, dim)
            error = mixed if join == "concat" and dim == -together.ndim else None
        except (RuntimeError, IndexError):
            shapes = " and ".join(dict.fromkeys(shape_text(out.shape) for out in outs))
            alike = "the same shape" if join == "add" else "shapes that differ in the joined dimension alone"
            error = ModelError(where, f"can't {join} {shapes}", f"Give all branches {alike}.")
        if error is not None:
            return Node(replace(row, error=error), tuple(nodes)), None
        given = self._new(Flow(tuple(together.shape[1:]), together.dtype, any(out.learns for out in outs)))
        return _holding(entry, values, row, nodes, nodes, given), given


def place(path: tuple[int, ...]) -> str:
    """`model.layers.2.layers.0`: where the layer stands in a recipe."""
    return "model." + ".".join(f"layers.{position}" for position in path)


def projection(given: Shape, wanted: Shape, body: Sequence[Layer] = ()) -> list[Layer]:
    """The layers of a shortcut from one shape to the other: He et al.'s option B, Linear for what is no image.

    `body` is what it leads around: beside convolutions it is one.
    """
    convolves = any(layer.name.startswith("Conv") for _, layer in walk(tuple(body)))
    if given[:-1] == wanted[:-1] and not (convolves and len(given) > 1):
        return [Layer.model_validate({"name": "Linear", "out_features": wanted[-1], "bias": False})]
    if len(given) != len(wanted) or not 2 <= len(given) <= 4:
        return []
    # A 1×1 convolution makes ⌈before / stride⌉ of a side.
    strides = [-(-before // after) for before, after in zip(given[1:], wanted[1:], strict=True)]
    kind = f"{len(given) - 1}d"
    convolution = {"name": f"Conv{kind}", "out_channels": wanted[0], "kernel_size": 1, "bias": False}
    if any(stride > 1 for stride in strides):
        convolution["stride"] = strides[0] if len(set(strides)) == 1 else strides
    return [Layer.model_validate(convolution), Layer.model_validate({"name": f"BatchNorm{kind}"})]


def complete(
    entry: Entry, given: Mapping[str, Any], flow: Flow, sizes: Mapping[str, int], where: str
) -> dict[str, Any]:
    """The layer's parameters with those filled in that follow from what reaches it, and from the data.

    Raises RecipeError or ModelError.
    """
    entry.check(given, where)
    values, incoming = dict(given), (SAMPLES, *flow.shape)
    for parameter in entry.parameters:
        name = parameter.name
        if name in FROM_DATA and name not in values:
            values[name] = _of_data(name, flow, sizes, where)
        elif name == "cardinalities" and flow.codes and as_tuples(values[name]) != flow.codes:
            what = f"is {list(values[name])}, the data has {list(flow.codes)}"
            raise ModelError(f"{where}.{name}", what, "Remove it: it is inferred.")
        elif parameter.inferred and name not in values:
            dimension = FROM_SHAPE[name]
            if dimension >= len(incoming):
                raise ModelError(where, f"{entry.name} needs images or sequences", "Remove the Flatten above it.")
            values[name] = incoming[dimension]
        elif name == "batch_first" and values.get(name) is False:
            raise ModelError(f"{where}.{name}", "would take the batch for time: samples would mix", "Remove it.")
        elif name == "batch_first":
            if not flow.dtype.is_floating_point:
                raise of_tokens(entry.name, where)
            if len(incoming) != 3:  # of two, torch would take the batch for one long sequence and mix the samples
                what = f"{entry.name} needs sequences (steps × features), {giver(where)} gives {shape_text(flow.shape)}"
                raise ModelError(where, what, "Change what is above it.")
            values.setdefault(name, True)  # all our batches are
        elif (
            name == "dim" and not entry.container and _mixes_samples(values.get(name, parameter.default), len(incoming))
        ):
            raise ModelError(f"{where}.{name}", "would be the batch: samples would mix", "Write dim = -1.")
        elif isinstance(values.get(name), str) and values[name] in sizes:
            values[name] = sizes[values[name]]
        elif values.get(name) in SIZES and parameter.takes_size:
            there = ", ".join(sizes)
            raise ModelError(f"{where}.{name}", f"this data has no {values[name]}", f"Write {there} or a number.")
    return values


def _of_data(name: str, flow: Flow, sizes: Mapping[str, int], where: str) -> int | tuple[int, ...]:
    """A parameter that follows from the data. Raises ModelError."""
    if name == "cardinalities":
        if flow.codes:
            return flow.codes
        what, remedy = (
            "follows from codes of categories, and none reach it",
            'Set categories = "embedding" for the data.',
        )
        raise ModelError(f"{where}.{name}", what, remedy)
    if FROM_DATA[name] in sizes:
        return sizes[FROM_DATA[name]]
    what = f"follows from a {FROM_DATA[name]}, which this data does not have"
    raise ModelError(f"{where}.{name}", what, "Write a number.")


def _holding(
    entry: Entry,
    values: dict[str, Any],
    row: LayerRow,
    shown: Sequence[Node],
    counted: Sequence[Node],
    out: Flow | None,
) -> Node:
    """A container with the sums of what it holds."""
    row = replace(
        row,
        output=out.shape if out else None,
        parameters=sum(node.row.parameters for node in counted),
        flops=sum(node.row.flops for node in counted),
        kept=sum(node.row.kept for node in counted),
    )
    return Node(row, tuple(shown), partial(_made, entry, values, place(row.path), counted), values, tuple(counted))


def _made(entry: Entry, values: Mapping[str, Any], where: str, parts: Sequence[Node]) -> nn.Module:
    module: nn.Module = entry.make(values, where, *(node.make() for node in parts))
    return module


def _hopeless(error: ModelError) -> ModelError:
    """The same error where no projection can help."""
    return ModelError(error.where, error.what, "No projection leads from one to the other: change the layers.")


def _flow(given: Flow | Shape) -> Flow:
    return given if isinstance(given, Flow) else Flow(tuple(given))


def _mixes_samples(dim: object, dimensions: int) -> bool:
    """Whether a layer's `dim` is the batch's. Without one, torch.nn's softmax layers take 0 for three dimensions."""
    return (dim is None and dimensions == 3) or (isinstance(dim, int) and dim in (0, -dimensions))
