"""What would mend a model whose layers do not fit: each suggestion was tried before it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine import catalog
from engine.errors import nearest_name
from engine.models.columns import CodesError
from engine.models.layers import trace
from engine.models.rows import LayerRow, Shape
from engine.models.traces import Flow
from engine.recipe import Layer
from engine.recipe.tree import Path, Tree, at, inserted, removed, replaced, walk

_ROUNDS = 8  # mends after each other at most, to fit a model to other data
_TOLD = 3  # of them


@dataclass(frozen=True)
class Fix:
    """A mend in words, and all layers as they are with it; `gives_up` when what a person wrote goes.

    What is not a matter of layers is in `settings`, by dotted keys; without `layers` they stay as they are.
    """

    title: str
    layers: Tree = ()
    gives_up: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def fixes(layers: Tree, flow: Flow, sizes: Mapping[str, int], outputs: int | Shape) -> list[Fix]:
    """What mends the first thing wrong with the layers, the gentlest first; none where nothing is wrong.

    `outputs` is how many numbers the task wants of a sample, or in which shape.
    """
    wanted = (outputs,) if isinstance(outputs, int) else outputs
    rows = trace(layers, flow, sizes)
    wrong = next((row for row in rows if row.error is not None), None)
    if wrong is not None:
        left = _left(rows)
        tried = [
            fix
            for fix in _at(layers, rows, wrong, sizes)
            if fix.layers and _left(trace(fix.layers, flow, sizes)) < left
        ]
    elif layers and _end(rows) != wanted:
        ends = _at_the_end(layers, rows, sizes) if len(wanted) == 1 else _at_the_end_of_pixels(layers, wanted)
        tried = [fix for fix in ends if _end(trace(fix.layers, flow, sizes)) == wanted]
    else:
        tried = []
    return list({fix.layers: fix for fix in reversed(tried)}.values())[::-1]


def fitted(layers: Tree, flow: Flow, sizes: Mapping[str, int], outputs: int | Shape) -> Tree:
    """The layers mended until they take the data and give what the task wants, as far as that goes.

    Sizes that contradict the data are left to follow from it, and the last layer's are the task's. No layer at fault is
    taken out: what a person wrote is theirs to give up.
    """
    made = mends(layers, flow, sizes, outputs)
    return made[-1].layers if made else layers


def mends(layers: Tree, flow: Flow, sizes: Mapping[str, int], outputs: int | Shape) -> list[Fix]:
    """The mends of `fitted`, one after the other; each has all layers as they are with it and those before it."""
    made: list[Fix] = []
    for _ in range(_ROUNDS):
        found = next((fix for fix in fixes(layers, flow, sizes, outputs) if not fix.gives_up), None)
        if found is None:
            break
        at_fault = next((row.name for row in trace(layers, flow, sizes) if row.error is not None), "")
        named = not at_fault or at_fault in found.title
        made.append(found if named else replace(found, title=f"{found.title} ({at_fault})"))
        layers = found.layers
    return made


def title_of(made: Sequence[Fix]) -> str:
    """Several mends in a line."""
    titles = list(dict.fromkeys(mend.title for mend in made))
    more = len(titles) - _TOLD
    return ", ".join(titles[:_TOLD]) + (f" and {more} more" if more > 0 else "")


def _at(layers: Tree, rows: Sequence[LayerRow], row: LayerRow, sizes: Mapping[str, int]) -> Iterator[Fix]:
    """Candidates for the layer of `row`, which refuses what reaches it."""
    path, layer, reached = row.path, at(layers, row.path), row.input or ()
    yield from _respelled(layers, path, sizes)
    yield from _of_other_samples(layers, rows, row)
    if layer.name == "Residual" and layer.parameters.get("projection") == "none":
        yield Fix("let the shortcut project", replaced(layers, path, _without(layer, {"projection"})))
    if layer.name == "Parallel" and layer.parameters.get("join") == "add":
        yield Fix("join by concat", replaced(layers, path, _with(layer, join="concat")))
    loose = _without(layer, _inferred(layer))
    names = " and ".join(sorted(set(layer.parameters) - set(loose.parameters)))
    follow = Fix(f"let {names} follow from the layer above", replaced(layers, path, loose))
    if names and len(reached) != 3:  # a Linear would take the columns of a picture for its features
        yield follow
    missing = {key for key, value in layer.parameters.items() if value in catalog.SIZES and value not in sizes}
    word = next((name for name in ("classes", "targets") if name in sizes), None)
    if missing and word:
        other = _with(layer, **dict.fromkeys(missing, word))
        yield Fix(f"set {' and '.join(sorted(missing))} to the data's {word}", replaced(layers, path, other))
    flatten, pool = _layer("Flatten"), _layer("AdaptiveAvgPool2d", output_size=1)
    for same in dict.fromkeys((layer, loose)):
        if len(reached) > 1 and not layer.layers:  # of a block it only moves the fault to what is inside
            yield Fix("add a Flatten above", replaced(layers, path, flatten, same))
        if len(reached) == 3 and not layer.layers:
            yield Fix("add adaptive average pooling above", replaced(layers, path, pool, flatten, same))
        if "vocabulary" in sizes and len(reached) == 1:
            embedding = _layer("Embedding", embedding_dim=64)
            yield Fix("add an Embedding above", replaced(layers, path, embedding, same))
        if isinstance(row.error, CodesError):
            yield Fix("add a ColumnEmbedding above", replaced(layers, path, _layer("ColumnEmbedding"), same))
        kernel = layer.parameters.get("kernel_size")
        if isinstance(kernel, int) and len(reached) > 1:
            smaller = min(kernel, *reached[1:])
            yield Fix(f"make the kernel {smaller}", replaced(layers, path, _with(same, kernel_size=smaller)))
            yield Fix(f"pad by {kernel // 2}", replaced(layers, path, _with(same, padding=kernel // 2)))
    if names:
        yield follow
    around = [path[:end] for end in range(len(path), 0, -1)]  # the layer itself, and the containers that it is in
    if (above := _flatten_above(layers, path)) is not None:
        yield Fix("remove the Flatten above", removed(layers, above))
    for each in around:
        name = at(layers, each).name
        needless = name == "Embedding" and "vocabulary" not in sizes  # pictures have no tokens to look up
        needless |= name == "ColumnEmbedding"  # it is at fault where no codes are, or `loose` mends it
        yield Fix(f"remove {name}", removed(layers, each), gives_up=not needless)


def _of_other_samples(layers: Tree, rows: Sequence[LayerRow], row: LayerRow) -> Iterator[Fix]:
    """The same layer for samples of as many dimensions as reach it, or those samples as the sequence that it wants."""
    path, layer, reached = row.path, at(layers, row.path), row.input or ()
    entry = catalog.layers().get(layer.name)
    if (other := f"{layer.name[:-2]}{len(reached) - 1}d") in catalog.layers() and other != layer.name:
        meant = Layer.model_validate({"name": other, **layer.parameters})
        yield Fix(f"make it {other}", replaced(layers, path, meant))
    if entry is None or not (entry.parameter("batch_first") or entry.name in ("PositionalEncoding", "SequencePool")):
        return
    if len(reached) == 3:
        yield Fix("read the rows of pictures as a sequence", replaced(layers, path, *_rows_as_steps(reached), layer))
    above = _flatten_above(layers, path)
    picture = next((each.input for each in rows if each.path == above), None) or ()
    if above is not None and len(picture) == 3:
        title = "read the rows of pictures as a sequence, in place of the Flatten above"
        yield Fix(title, replaced(layers, above, *_rows_as_steps(picture)))
    if len(reached) == 1:
        step = _layer("Unflatten", dim=1, unflattened_size=[-1, 1])
        yield Fix("read each number as a step: add an Unflatten above", replaced(layers, path, step, layer))


def _rows_as_steps(picture: Shape) -> Tree:
    """Layers that make (rows × what is in one) of a picture (channels × height × width)."""
    if picture[0] == 1:
        return (_layer("Flatten", start_dim=1, end_dim=2),)
    return _layer("Permute", dims=[1, 0, 2]), _layer("Flatten", start_dim=2)


def _flatten_above(layers: Tree, path: Path) -> Path | None:
    """The Flatten that is right above a layer, or above the container that it is first in."""
    first = next((path[:end] for end in range(len(path), 0, -1) if path[end - 1] > 0), None)
    above = (*first[:-1], first[-1] - 1) if first else None
    return above if above and at(layers, above).name == "Flatten" else None


def _respelled(layers: Tree, path: Path, sizes: Mapping[str, int]) -> Iterator[Fix]:
    """The layer at `path` with a name that torch does not know as the one that is spelt most like it."""
    layer, known = at(layers, path), catalog.layers()
    entry = known.get(layer.name)
    if entry is None:
        if name := nearest_name(layer.name, known):
            meant = Layer.model_validate({"name": name, **layer.parameters, "layers": layer.layers})
            yield Fix(f"make it {name}", replaced(layers, path, meant))
        return
    parameters = {parameter.name: parameter for parameter in entry.parameters}
    for key, value in layer.parameters.items():
        there = parameters.get(key)
        if there is None and (
            name := nearest_name(key, [other for other in parameters if other not in layer.parameters])
        ):
            yield Fix(f"make {key} {name}", replaced(layers, path, _with(_without(layer, {key}), **{name: value})))
        elif there and isinstance(value, str) and there.takes_size and (name := nearest_name(value, sizes)):
            yield Fix(f"set {key} to the data's {name}", replaced(layers, path, _with(layer, **{key: name})))


def _at_the_end(layers: Tree, rows: Sequence[LayerRow], sizes: Mapping[str, int]) -> Iterator[Fix]:
    """Candidates for a model that runs but gives something else than the task wants."""
    word = next((name for name in ("classes", "targets") if name in sizes), None)
    if word is None:
        return
    last = _last_with_outputs(layers)
    flatten, pool = _layer("Flatten"), _layer("AdaptiveAvgPool2d", output_size=1)
    if last is not None:
        path, key = last
        layer = at(layers, path)
        wide = _with(layer, **{key: word})
        reached = next((row.input for row in rows if row.path == path), None) or ()
        as_wide = layer.parameters[key] in (word, sizes[word])
        for title, same in (("", layer),) if as_wide else ((f" and set {key} to {word}", wide),):
            if not as_wide:
                yield Fix(f"set {key} of {layer.name} to {word}", replaced(layers, path, wide))
            if (first := _first_of_columns(layers, rows)) is not None and first != path:
                above = replaced(replaced(layers, path, same), first, flatten, at(layers, first))
                yield Fix(f"add a Flatten above the first Linear{title}", above)
            if len(reached) == 2:
                pooled = _layer("SequencePool")
                yield Fix(f"add a SequencePool above {layer.name}{title}", replaced(layers, path, pooled, same))
            if len(reached) > 1:
                yield Fix(f"add a Flatten above {layer.name}{title}", replaced(layers, path, flatten, same))
            if len(reached) == 3:
                what = f"add adaptive average pooling above {layer.name}{title}"
                yield Fix(what, replaced(layers, path, pool, flatten, same))
    end = (len(layers),)
    yield Fix(f"end with Linear, out_features = {word}", inserted(layers, end, _layer("Linear", out_features=word)))
    head = (flatten, _layer("Linear", out_features=word))
    yield Fix(f"end with Flatten and Linear, out_features = {word}", inserted(layers, end, *head))


def _first_of_columns(layers: Tree, rows: Sequence[LayerRow]) -> Path | None:
    """The first Linear, if it takes the columns of pictures for its features."""
    for row in rows:
        if row.path and at(layers, row.path).name == "Linear":
            return row.path if len(row.input or ()) == 3 else None
    return None


def _at_the_end_of_pixels(layers: Tree, wanted: Shape) -> Iterator[Fix]:
    """Candidates for a model that is to give a score of each class for each pixel."""
    scores = _layer("Conv2d", out_channels="classes", kernel_size=1)
    larger = _layer("Upsample", size=list(wanted[1:]), mode="bilinear")
    size = "×".join(map(str, wanted[1:]))
    end = (len(layers),)
    last = _last_with_outputs(layers)
    if last is not None and last[1] == "out_channels":
        path, key = last
        as_wide = replaced(layers, path, _with(at(layers, path), **{key: "classes"}))
        yield Fix(f"set {key} of {at(layers, path).name} to classes", as_wide)
        yield Fix(f"set it to classes, and end with Upsample to {size}", inserted(as_wide, end, larger))
    yield Fix(f"end with Upsample to {size}", inserted(layers, end, larger))
    yield Fix("end with Conv2d, out_channels = classes", inserted(layers, end, scores))
    yield Fix(f"end with Conv2d, out_channels = classes, and Upsample to {size}", inserted(layers, end, scores, larger))


def _left(rows: Sequence[LayerRow]) -> int:
    """How many rows there are from the first one at fault on."""
    faulty = next((position for position, row in enumerate(rows) if row.error is not None), len(rows))
    return len(rows) - faulty


def _end(rows: Sequence[LayerRow]) -> Shape | None:
    outermost = [row for row in rows if row.outermost]
    return outermost[-1].output if outermost else None


def _last_with_outputs(layers: Tree) -> tuple[Path, str] | None:
    """The last layer that says how many numbers it gives, and by which parameter."""
    found = None
    for path, layer in walk(layers):
        for key in ("out_features", "out_channels"):
            if key in layer.parameters and all(at(layers, path[:i]).name == "Sequential" for i in range(1, len(path))):
                found = path, key
    return found


def _inferred(layer: Layer) -> set[str]:
    entry = catalog.layers().get(layer.name)
    return {parameter.name for parameter in entry.parameters if parameter.inferred} if entry else set()


def _layer(name: str, **parameters: object) -> Layer:
    return Layer.model_validate({"name": name, **parameters})


def _with(layer: Layer, **changes: object) -> Layer:
    return Layer.model_validate({"name": layer.name, **layer.parameters, **changes, "layers": layer.layers})


def _without(layer: Layer, names: set[str]) -> Layer:
    kept = {key: value for key, value in layer.parameters.items() if key not in names}
    return Layer.model_validate({"name": layer.name, **kept, "layers": layer.layers})
