"""Choosing a model of torchvision's zoo: the model, its weights, and what of it learns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on, work

from engine.errors import StudioError
from tui.dialogs.pick import Choice, PickScreen
from tui.panes.model import ModelPane
from tui.screens.own_code import OwnCodeScreen

if TYPE_CHECKING:
    from engine.models.zoo.catalogue import ZooModel, ZooWeights

_SCRATCH = "from scratch"
_EPOCHS = (1, 2, 3, 5, 10)
_NEVER = "never"
_SLOWER = 0.1
_WAYS = (
    Choice("the head alone", note="all else is frozen", doc="Quick, and right for little data that looks much like"
           " what the weights were trained on. Batch norms keep their statistics."),
    Choice("all but the first blocks", note="early blocks are frozen", doc="Edges and textures stay as they are; what"
           " is built of them learns. For data that looks somewhat different."),
    Choice("all, the backbone slower", note=f"at {_SLOWER:g} of the rate", doc="Everything moves, and what was learnt"
           " before moves a little: optimizer.backbone_lr_factor. For enough data."),
    Choice("all alike", note="the weights are a beginning", doc="Everything learns at the same rate. For much data."),
)  # fmt: skip


class ChoosingScreen(OwnCodeScreen):
    """A screen whose model can be taken from the zoo."""

    @on(ModelPane.Zoo)
    @work
    async def _choose_zoo(self) -> None:
        """One step of undo, however many questions it takes; escape at any of them changes nothing."""
        if not self.ready:
            return
        models = await asyncio.to_thread(self.desk.zoo, self.draft.recipe.task)
        if not models:
            self.notify(f"torchvision has no model for {self.draft.recipe.task}.", severity="warning")
            return
        ordered = sorted(models, key=lambda model: (model.family, model.standard.parameters if model.standard else 0))
        now = self.draft.recipe.model.zoo
        longest = max(len(model.name) for model in models)
        choices = [_model_choice(model, longest) for model in ordered]
        name = await self._pick("Choose a model: parameters, FLOPs, acc@1 on ImageNet", choices, now)
        if name is None:
            return
        model = next(each for each in models if each.name == name)
        weights = await self._pick(f"{name}: begin with", self._weights_choices(model))
        if weights == _SCRATCH:
            self.edit(lambda: self.draft.choose_zoo(name))
        elif weights is not None:
            await self._choose_way(name, weights)

    async def _choose_way(self, name: str, weights: str) -> None:
        way = await self._pick(f"{name}: what learns", _WAYS)
        if way is None:
            return
        freeze: str | int = "none"
        until = 0
        if way in (_WAYS[0].name, _WAYS[1].name):
            freeze = "backbone"
            if way == _WAYS[1].name:
                found = await self._ask_blocks(name, weights)
                if found is None:
                    return
                freeze = found
            epochs = [Choice(f"after {count} epoch{'s' * (count > 1)}") for count in _EPOCHS]
            answer = await self._pick("When does the frozen part learn?", [Choice(_NEVER), *epochs])
            if answer is None:
                return
            until = 0 if answer == _NEVER else int(answer.split()[1])
        backbone = _SLOWER if way == _WAYS[2].name else 1.0
        self.edit(lambda: self.draft.choose_zoo(name, weights, freeze, until, backbone))

    async def _ask_blocks(self, name: str, weights: str) -> int | None:
        """How many of the first blocks to freeze."""
        wanted = self.draft.recipe.override({"model": {"zoo": name, "weights": weights}}, self.draft.name)
        try:
            blocks = await asyncio.to_thread(self.desk.blocks, wanted)
        except StudioError as error:
            self.notify(str(error), severity="error", title="Not changed")
            return None
        frozen, total, choices = 0, sum(size for _, size in blocks), []
        for place, (block, size) in enumerate(blocks, 1):
            frozen += size
            doc = f"Frozen: {', '.join(name for name, _ in blocks[:place])}\n\n{frozen:,} of {total:,} parameters"
            choices.append(Choice(block, note=f"{frozen / total:.0%}", doc=f"{doc} before the head"))
        chosen = await self._pick(f"{name}: freeze up to and with", choices)
        return None if chosen is None else [block for block, _ in blocks].index(chosen) + 1

    def _weights_choices(self, model: ZooModel) -> list[Choice]:
        choices = []
        for weights in model.weights:
            path = self.desk.weights_file(weights)
            there = "on this machine" if path else f"↓ {weights.megabytes:.0f} MB"
            doc = (
                f"Trained on {weights.trained_on}.\n\nThe head is new, for the data's classes.\n\n{path or weights.url}"
            )
            choices.append(Choice(weights.name, note=f"{_accuracy(weights)} · {there}", doc=doc))
        doc = "Random weights. The first convolution takes the channels of the data."
        return [*choices, Choice(_SCRATCH, note="random weights, no download", doc=doc)]

    async def _pick(self, title: str, choices: Sequence[Choice], current: str = "") -> str | None:
        return await self.app.push_screen_wait(PickScreen(title, choices, current))


def _model_choice(model: ZooModel, longest: int) -> Choice:
    """A row whose columns stand below each other where names are up to `longest`."""
    best = model.standard
    if best is None:
        return Choice(model.name, model.family, "", model.about)
    lines = [f"{each.name}  {_accuracy(each)}, {each.megabytes:.0f} MB, {each.side} px" for each in model.weights]
    about = f"{model.about}\n\n{best.parameters:,} parameters\n{best.gflops:g} GFLOPs at {best.side} px"
    accuracy = f"{best.accuracy:.1f}%" if best.accuracy is not None else ""
    columns = f"{best.parameters / 1e6:>5.1f}M {best.gflops:>6.1f}G {accuracy:>5}"
    note = " " * (longest - len(model.name)) + columns
    return Choice(model.name, model.family, note, "\n".join([about, "", "Pretrained weights", *lines]))


def _accuracy(weights: ZooWeights) -> str:
    return f"acc@1 {weights.accuracy:.1f}" if weights.accuracy is not None else "accuracy unknown"
