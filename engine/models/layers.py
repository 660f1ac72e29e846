"""A recipe's layers → a module, with the sizes that follow from the layer above filled in and every shape known.

Shapes are found by running each layer on the meta device: torch computes them without memory or arithmetic. What a
layer makes of a shape is remembered, so that after an edit only what it changed is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from engine import catalog
from engine.catalog import FROM_DATA, FROM_SHAPE, SIZES, Entry
from engine.errors import ModelError, RecipeError, StudioError
from engine.models.blocks import Chain, joined
from engine.models.costs import Tally, storage
from engine.models.mismatch import explained
from engine.models.rows import LayerRow, Shape, count_parameters, settings_text, shape_text
from engine.recipe import Layer

_META = torch.device("meta")
# More than one, which batch norm refuses to learn from, and no likely number of channels: torch's layers take a batch
# for one unbatched sample where the numbers happen to agree.
_SAMPLES = 101
_STEPS = 2  # of a sequence that a recurrent layer is run on: all its steps are alike, and there may be thousands
_REMEMBERED = 4096
_MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Flow:
    """What reaches a layer: one sample's shape, its type, and whether the backward pass keeps it already."""

    shape: Shape
    dtype: torch.dtype = torch.float32
    kept: bool = False


@dataclass(frozen=True)
class _Traced:
    """What a layer makes of a flow, for one sample; `inner` is what it keeps beside its input and its output."""

    output: Flow
    parameters: int
    flops: float
    inner: float
    keeps_input: bool
    is_view: bool


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
            inner, _ = self.chain(part.layers, None, path)
            return Node(row, tuple(inner)), None
        try:
            entry = catalog.find("layer", catalog.layers(), part.name, where)
            if entry.container:
                return self._container(entry, part, flow, row)
            if part.layers:
                raise RecipeError(f"{where}.layers", f"{part.name} holds no layers", "Put them after it.")
            values = complete(entry, part.parameters, flow, self.sizes, where)
            traced = _remembered(entry, values, flow, part, where)
        except StudioError as error:
            inner, _ = self.chain(part.layers, None, path)
            return Node(replace(row, error=error), tuple(inner)), None
        incoming = _bytes(flow) if traced.keeps_input and not flow.kept else 0
        own = traced.inner + incoming + (_bytes(traced.output) if traced.output.kept and not traced.is_view else 0)
        kept = (flow.kept or traced.keeps_input) if traced.is_view else traced.output.kept
        row = replace(row, output=traced.output.shape, parameters=traced.parameters, flops=traced.flops, kept=own)
        return Node(row, (), partial(entry.make, values, where), values), replace(traced.output, kept=kept)

    def _container(self, entry: Entry, part: Layer, flow: Flow, row: LayerRow) -> tuple[Node, Flow | None]:
        where = place(row.path)
        entry.check(part.parameters, where)
        if not part.layers:
            raise ModelError(where, f"{part.name} is empty", "Add a layer to it, or remove it.")
        given = part.parameters.items()
        values = {key: self.sizes.get(value, value) if isinstance(value, str) else value for key, value in given}
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
        times = values["times"]
        if not 1 <= times <= _MOST_ROUNDS:
            raise ModelError(f"{place(row.path)}.times", f"{times} rounds", f"Write 1 to {_MOST_ROUNDS}.")
        shown, out = self.chain(part.layers, flow, row.path)
        everything = list(shown)
        for _ in range(times - 1):
            if out is None:
                break
            nodes, out = self.chain(part.layers, out, row.path)
            everything += nodes
            shown = nodes if out is None else shown  # the round that fails is the one to look at
        return _holding(entry, values, row, shown, everything, out), out

    def _around(
        self, entry: Entry, values: dict[str, Any], part: Layer, flow: Flow, row: LayerRow
    ) -> tuple[Node, Flow | None]:
        nodes, out = self.chain(part.layers, flow, row.path)
        if out is None or out.shape == flow.shape:
            return _holding(entry, values, row, nodes, nodes, out), out
        what = f"adds {shape_text(flow.shape)} to the {shape_text(out.shape)} that its layers give"
        refused = ModelError(place(row.path), what, "Let both be the same, or set projection = auto.")
        if values.get("projection", "auto") == "none":
            return Node(replace(row, error=refused), tuple(nodes)), None
        shortcut, reached = self.chain(projection(flow.shape, out.shape), flow, row.path)
        if reached is None or reached.shape != out.shape:
            return Node(replace(row, error=_hopeless(refused)), tuple(nodes)), None
        node = _holding(entry, values, row, nodes, [*nodes, *shortcut], out)

        def make() -> nn.Module:
            module: nn.Module = entry.make(values, place(row.path), *(node.make() for node in nodes))
            module.shortcut = Chain(*(node.make() for node in shortcut))
            return module

        through = " + ".join(each.row.name for each in shortcut)
        settings = ", ".join(filter(None, (row.settings, f"shortcut {through}")))
        row = replace(node.row, settings=settings)
        return replace(node, make=make, row=row, parts=tuple(nodes), shortcut=tuple(shortcut)), replace(out, kept=False)

    def _side_by_side(
        self, entry: Entry, values: dict[str, Any], part: Layer, flow: Flow, row: LayerRow
    ) -> tuple[Node, Flow | None]:
        where, nodes, outs, kept = place(row.path), list[Node](), list[Flow](), flow.kept
        dim = values.get("dim")
        if dim == 0 or (isinstance(dim, int) and dim == -len(flow.shape) - 1):
            raise ModelError(f"{where}.dim", "would be the batch: samples would mix", "Write dim = 1 or dim = -1.")
        failed = False
        for position, branch in enumerate(part.layers):
            node, out = self.node(branch, replace(flow, kept=kept), (*row.path, position))
            kept = kept or node.row.kept > 0
            nodes.append(node)
            failed = failed or out is None
            outs += [out] if out is not None else []
        if failed:
            return _holding(entry, values, row, nodes, nodes, None), None
        blank = [torch.empty(_SAMPLES, *out.shape, device=_META, dtype=out.dtype) for out in outs]
        join = values.get("join", "concat")
        try:
            shape = tuple(joined(blank, join, dim).shape[1:])
        except (RuntimeError, IndexError):
            shapes = " and ".join(dict.fromkeys(shape_text(out.shape) for out in outs))
            alike = "the same shape" if join == "add" else "shapes that differ in the joined dimension alone"
            error = ModelError(where, f"can't {join} {shapes}", f"Give all branches {alike}.")
            return Node(replace(row, error=error), tuple(nodes)), None
        out = Flow(shape, outs[0].dtype)
        return _holding(entry, values, row, nodes, nodes, out), out


def place(path: tuple[int, ...]) -> str:
    """`model.layers.2.layers.0`: where the layer stands in a recipe."""
    return "model." + ".".join(f"layers.{position}" for position in path)


def projection(given: Shape, wanted: Shape) -> list[Layer]:
    """The layers of a shortcut from one shape to the other: He et al.'s option B, Linear for what is no image."""
    if given[:-1] == wanted[:-1]:
        return [Layer.model_validate({"name": "Linear", "out_features": wanted[-1], "bias": False})]
    if len(given) != len(wanted) or not 2 <= len(given) <= 4:
        return []
    strides = [max(1, round(before / after)) for before, after in zip(given[1:], wanted[1:], strict=True)]
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
    values, incoming = dict(given), (_SAMPLES, *flow.shape)
    for parameter in entry.parameters:
        name = parameter.name
        if name in FROM_DATA and name not in values:
            if FROM_DATA[name] not in sizes:
                what = f"follows from a {FROM_DATA[name]}, which this data does not have"
                raise ModelError(f"{where}.{name}", what, "Write a number.")
            values[name] = sizes[FROM_DATA[name]]
        elif parameter.inferred and name not in values:
            dimension = FROM_SHAPE[name]
            if dimension >= len(incoming):
                raise ModelError(where, f"{entry.name} needs images or sequences", "Remove the Flatten above it.")
            values[name] = incoming[dimension]
        elif name == "batch_first" and values.get(name) is False:
            raise ModelError(f"{where}.{name}", "would take the batch for time: samples would mix", "Remove it.")
        elif name == "batch_first":
            if len(incoming) < 3:  # torch would take the batch for one long sequence and mix the samples
                what = f"{entry.name} needs sequences, the layer above gives {shape_text(flow.shape)}"
                raise ModelError(where, what, "Remove the Flatten above it, or add an Unflatten.")
            values.setdefault(name, True)  # all our batches are
        elif name == "dim" and _mixes_samples(values.get(name, parameter.default), len(incoming)):
            raise ModelError(f"{where}.{name}", "would be the batch: samples would mix", "Write dim = -1.")
        elif isinstance(values.get(name), str) and values[name] in sizes:
            values[name] = sizes[values[name]]
        elif values.get(name) in SIZES and parameter.takes_size:
            there = ", ".join(sizes)
            raise ModelError(f"{where}.{name}", f"this data has no {values[name]}", f"Write {there} or a number.")
    return values


_memory: dict[object, _Traced] = {}


def _remembered(entry: Entry, values: dict[str, Any], flow: Flow, part: Layer, where: str) -> _Traced:
    """What the layer makes of `flow`: as it was found before, if it was."""
    if any(parameter.takes_function for parameter in entry.parameters if parameter.name in values):
        return _trace(entry, values, flow, part, where)  # the file may have changed
    key = (entry.name, repr(values), flow.shape, flow.dtype)
    found = _memory.get(key)
    if found is None:
        if len(_memory) >= _REMEMBERED:
            _memory.clear()
        found = _memory[key] = _trace(entry, values, flow, part, where)
    return found


def _trace(entry: Entry, values: dict[str, Any], flow: Flow, part: Layer, where: str) -> _Traced:
    with _META:
        module: nn.Module = entry.make(values, where)
    steps = flow.shape[0] if isinstance(module, nn.RNNBase) and len(flow.shape) == 2 else 0
    shape = (min(steps, _STEPS), *flow.shape[1:]) if steps else flow.shape
    floats = flow.dtype.is_floating_point
    incoming = torch.empty(_SAMPLES, *shape, device=_META, dtype=flow.dtype, requires_grad=floats)
    tally = Tally()
    try:
        with tally.of(module):
            outgoing: Any = module(incoming)
    except Exception as error:  # a layer may raise anything for a shape that does not fit
        raise explained(module, part, flow.shape, floats, where, error) from error
    outgoing = outgoing[0] if isinstance(outgoing, tuple) else outgoing
    if not isinstance(outgoing, Tensor) or outgoing.ndim < 1 or len(outgoing) != len(incoming):
        raise ModelError(where, f"{part.name} does not give one output a sample", "Remove it.")
    output = tuple(outgoing.shape[1:])
    if not outgoing.numel():
        what = f"{part.name} makes {shape_text(output)} of {shape_text(flow.shape)}: nothing is left"
        raise ModelError(where, what, "Change it or the layer above.")
    is_view = storage(outgoing) == storage(incoming)
    ends = {storage(end): end.untyped_storage().nbytes() for end in (incoming, outgoing) if tally.keeps(end)}
    longer = steps / shape[0] if steps else 1
    if steps and len(output) == 2:
        output = (steps, *output[1:])
    return _Traced(
        output=Flow(output, outgoing.dtype, tally.keeps(outgoing)),
        parameters=count_parameters(module),
        flops=tally.flops / _SAMPLES * longer,
        inner=(tally.kept - sum(ends.values())) / _SAMPLES * longer,
        keeps_input=tally.keeps(incoming),
        is_view=is_view,
    )


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


def _bytes(flow: Flow) -> int:
    """Of one sample."""
    count = flow.dtype.itemsize
    for size in flow.shape:
        count *= size
    return count


def _flow(given: Flow | Shape) -> Flow:
    return given if isinstance(given, Flow) else Flow(tuple(given))


def _mixes_samples(dim: object, dimensions: int) -> bool:
    """Whether a layer's `dim` is the batch's. Without one, torch.nn's softmax layers take 0 for three dimensions."""
    return (dim is None and dimensions == 3) or (isinstance(dim, int) and dim in (0, -dimensions))
