"""What a person does to the layers of the recipe on the desk: the model pane asks, the draft changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.screen import Screen

from engine.errors import RecipeError, StudioError
from engine.recipe import Layer
from engine.recipe import tree as edits
from engine.recipe.tree import CONTAINERS, Path, Tree
from tui.dialogs.pick import Choice, PickScreen
from tui.panes.model import ModelPane, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.catalog import Entry
    from engine.check import Checked
    from tui.draft import Draft
    from tui.training import Desk

# The sections of torch.nn's documentation by the modules of its source; what most networks are made of comes first.
_SECTIONS = {
    "linear": "Linear layers",
    "conv": "Convolution layers",
    "fold": "Convolution layers",
    "pooling": "Pooling layers",
    "activation": "Non-linear activations",
    "batchnorm": "Normalization layers",
    "normalization": "Normalization layers",
    "instancenorm": "Normalization layers",
    "dropout": "Dropout layers",
    "container": "Containers",
    "rnn": "Recurrent layers",
    "transformer": "Transformer layers",
    "sequence": "Sequences",
    "sparse": "Sparse layers",
    "table": "Tables",
    "padding": "Padding layers",
    "pixelshuffle": "Vision layers",
    "upsampling": "Vision layers",
    "channelshuffle": "Shuffle layers",
    "flatten": "Utilities",
}
_ORDER = {section: place for place, section in enumerate(dict.fromkeys(_SECTIONS.values()))}
_MENU: dict[Request, tuple[str, str]] = {
    "edit": ("Edit its parameters", "enter"),
    "add": ("Add a layer below", "a"),
    "add_inside": ("Add a layer inside", "A"),
    "duplicate": ("Double it", "D"),
    "replace": ("Replace it with another", "="),
    "up": ("Move it up", "K or shift+↑"),
    "down": ("Move it down", "J or shift+↓"),
    "nest": ("Put it into a block", "n"),
    "unnest": ("Take the block away and keep what is inside", "N"),
    "copy": ("Copy it", "y"),
    "paste": ("Paste below", "p"),
    "fit": ("Fit the model to the data", "F"),
    "diagram": ("Draw the model", "g"),
    "remove": ("Remove it", "d"),
}


class ModellingScreen(Screen[None]):
    """Carries out what the model pane asks for, each as one step of undo."""

    draft: Draft
    desk: Desk
    ready: bool
    checked: Checked | None
    edit: Callable[[Callable[[], object]], None]
    copied: Tree = ()
    """The layers that were copied last; they outlive the recipe that they come from."""

    @on(ModelPane.Asked)
    def _asked(self, event: ModelPane.Asked) -> None:
        fix = event.fix
        if fix is not None:
            self.edit(lambda: self.draft.mend(fix.layers, fix.settings))
        else:
            self._do(event.request, event.path)

    @on(ModelPane.Pasted)
    def _pasted(self, event: ModelPane.Pasted) -> None:
        if self._tell_whole():
            return
        try:
            self._insert(event.path, *edits.from_text(event.text))
        except RecipeError as error:
            self.notify(str(error), severity="error", title="Not pasted")

    def _do(self, request: Request, path: Path) -> None:
        if request == "diagram":
            self._show_diagram()
            return
        if request == "fit" and self.draft.recipe.model.zoo:
            self._fit()
            return
        if self._tell_whole():
            return
        layers = self.draft.recipe.model.layers
        inside = self._layer(path)
        if inside is None and request not in ("add", "paste", "fit", "menu"):
            return
        if request in ("add", "add_inside"):
            self._add(path, inside=request == "add_inside")
        elif request == "edit":
            self._edit_layer(path)
        elif request == "replace":
            self._replace(path)
        elif request == "nest":
            self._nest(path)
        elif request == "menu":
            self._menu(path)
        elif request == "fit":
            self._fit()
        elif request == "paste":
            if self.copied:
                self._insert(path, *self.copied)
            else:
                self.notify("Nothing was copied yet: y copies a layer.")
        elif request in ("up", "down"):
            moved, there = edits.moved(layers, path, 1 if request == "down" else -1)
            self._become(moved, there)
        elif request == "remove":
            self._become(edits.removed(layers, path), path)
        elif inside is not None and request == "duplicate":
            self._become(edits.inserted(layers, _below(path), inside), _below(path))
        elif inside is not None and request == "copy":
            self.copied = (inside,)
            self.app.copy_to_clipboard(edits.to_text(self.copied))
            more = f" with {len(inside.layers)} inside" if inside.layers else ""
            self.notify(f"{inside.name}{more} is copied: p pastes it, here or in another recipe.")
        elif inside is not None and request == "unnest":
            if inside.name in CONTAINERS:
                self._become(edits.unwrapped(layers, path), path)
            else:
                self.notify(f"{inside.name} holds no layers.", severity="warning")

    def _tell_whole(self) -> bool:
        """Say why a model that is not made of layers has none to edit; whether it is such a one."""
        model = self.draft.recipe.model
        if model.zoo:
            self.notify(
                f"{model.zoo} comes whole from torchvision: its layers can't be edited. z chooses another model."
            )
        elif model.python:
            name = model.python.rpartition("/")[2]
            self.notify(f"The layers are written in {name}: edit the file, then R runs it anew.")
        return bool(model.zoo or model.python)

    def _become(self, layers: Tree, cursor: Path) -> None:
        self.edit(lambda: self.draft.set_layers(layers))
        self.query_one(ModelPane).select(cursor)

    def _layer(self, path: Path) -> Layer | None:
        try:
            return edits.at(self.draft.recipe.model.layers, path) if path else None
        except IndexError:  # the pane shows an older recipe for the moment that a check takes
            return None

    def _insert(self, path: Path, *new: Layer, inside: bool = False) -> None:
        """Below the layer at `path`, or in it: an empty container waits to be filled."""
        layers, here = self.draft.recipe.model.layers, self._layer(path)
        if here is None:
            there: Path = (len(layers),)
        elif here.name in CONTAINERS and (inside or not here.layers):
            there = (*path, 0)
        else:
            there = _below(path)
        self._become(edits.inserted(layers, there, *new), there)

    @work
    async def _add(self, path: Path, *, inside: bool) -> None:
        here = self._layer(path)
        if inside and here is not None and here.name not in CONTAINERS:
            self.notify(f"{here.name} holds no layers: n puts it into a block.", severity="warning")
            return
        into = here is not None and here.name in CONTAINERS and (inside or not here.layers)
        where = f"{'in' if into else 'below'} {here.name}" if here is not None else ""
        entry = await self._pick_layer(f"Add a layer {where}".strip())
        if entry is None:
            return
        values = await self._values(entry, {})
        if values is not None:
            self._insert(path, _made(entry, values), inside=inside)

    @work
    async def _edit_layer(self, path: Path) -> None:
        here = self._layer(path)
        if not self.ready or here is None:
            return
        entry = self.desk.entries("layer").get(here.name)
        if entry is None:
            self.notify(f"torch has no layer '{here.name}': remove it, or = replaces it.", severity="error")
            return
        values = await self._values(entry, here.parameters, always=True)
        if values is not None and self._layer(path) == here:
            self._become(edits.replaced(self.draft.recipe.model.layers, path, _made(entry, values, here.layers)), path)

    @work
    async def _replace(self, path: Path) -> None:
        here = self._layer(path)
        entry = await self._pick_layer(f"Replace {here.name}", here.name) if here is not None else None
        if here is None or entry is None:
            return
        known = {parameter.name for parameter in entry.parameters}
        kept = {key: value for key, value in here.parameters.items() if key in known}
        values = await self._values(entry, kept)
        if values is None or self._layer(path) != here:
            return
        inner = here.layers if entry.name in CONTAINERS else ()
        self._become(edits.replaced(self.draft.recipe.model.layers, path, _made(entry, values, inner)), path)

    @work
    async def _nest(self, path: Path) -> None:
        here = self._layer(path)
        entry = await self._pick_layer(f"Put {here.name} into", only=CONTAINERS) if here is not None else None
        values = await self._values(entry, {}) if entry is not None else None
        if entry is not None and values is not None and self._layer(path) == here:
            self._become(edits.wrapped(self.draft.recipe.model.layers, path, _made(entry, values)), path)

    @work
    async def _menu(self, path: Path) -> None:
        here = self._layer(path)
        fitting = [
            (request, title, key)
            for request, (title, key) in _MENU.items()
            if here is not None or request in ("add", "paste", "fit", "diagram")
            if here is None or here.name in CONTAINERS or request not in ("add_inside", "unnest")
        ]
        choices = [Choice(title, note=key) for _, title, key in fitting]
        chosen = await self.app.push_screen_wait(PickScreen(here.name if here is not None else "Model", choices))
        request = next((request for request, title, _ in fitting if title == chosen), None)
        if request is not None:
            self._do(request, path)

    def _show_diagram(self) -> None:
        from tui.dialogs.diagram import DiagramScreen

        if self.checked is not None and self.checked.rows:
            self.app.push_screen(DiagramScreen(self.draft.name, self.checked.rows))

    @work(exclusive=True, group="fit", exit_on_error=False)
    async def _fit(self) -> None:
        recipe = self.draft.recipe
        if not self.ready:
            return
        try:
            fix = await asyncio.to_thread(self.desk.fitted, recipe)
        except StudioError as error:
            self.notify(str(error), severity="error", title="Not fitted")
            return
        if self.draft.recipe is recipe:
            if fix.layers == recipe.model.layers and not fix.settings:
                self.notify("Nothing to mend: the layers fit the data, or what is wrong needs you.")
                return
            self.edit(lambda: self.draft.mend(fix.layers, fix.settings))
            anew = "No mend was enough: this is a small model for such data." if fix.gives_up else ""
            self.notify(f"{anew or 'The layers fit the data now.'} u takes it back.")

    async def _pick_layer(self, title: str, current: str = "", only: frozenset[str] = frozenset()) -> Entry | None:
        """A layer of the catalog, chosen by the person."""
        if not self.ready:
            return None
        entries = self.desk.entries("layer")
        fitting = [entry for entry in entries.values() if not only or entry.name in only]
        choices = [Choice(e.name, section_of(e), e.summary, f"{e.name}\n\n{e.doc}") for e in fitting]
        choices.sort(key=lambda choice: (_ORDER.get(choice.group, len(_ORDER)), choice.group))
        name = await self.app.push_screen_wait(PickScreen(title, choices, current))
        return entries[name] if name is not None else None

    async def _values(self, entry: Entry, given: dict[str, Any], *, always: bool = False) -> dict[str, Any] | None:
        """The layer's parameters from a form; without asking where none is needed, unless `always`."""
        from tui.dialogs.edit_part import EditPartScreen

        if not always and all(p.name in given for p in entry.parameters if p.required):
            return given
        return await self.app.push_screen_wait(EditPartScreen(entry, given))


def section_of(layer: Entry) -> str:
    """Where torch's documentation describes a layer; of a module that is not known here, the module."""
    return _SECTIONS.get(layer.group, layer.group)


def _made(entry: Entry, values: dict[str, Any], inner: Tree = ()) -> Layer:
    return Layer.model_validate({"name": entry.name, **values, "layers": inner})


def _below(path: Path) -> Path:
    return (*path[:-1], path[-1] + 1)
