"""Transfer learning: parts of a model that keep what they have, for a number of epochs or for good."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from engine.errors import RecipeError
from engine.models.heads import blocks, heads
from engine.recipe import Recipe


class Freezing:
    """Holds what `model.freeze` names, until `model.unfreeze_at` epochs are over. For the engine thread alone.

    A held weight has no gradient: every optimizer of torch passes over it, decay and momentum included. A held batch
    norm computes with the statistics that it has, and keeps them. What is held follows from the epoch alone, so that a
    resumed run holds the same. Weights that a model itself has told not to learn never do.

    To be made before the optimizer, which takes no weight that never learns, and begun (`begin_epoch`) after it, as
    the optimizer takes those that learn later. Raises RecipeError.
    """

    def __init__(self, recipe: Recipe, model: nn.Module) -> None:
        self._model, self._until = model, recipe.model.unfreeze_at
        self._parameters: list[nn.Parameter] = []
        self._norms: list[nn.Module] = []
        self._holds = False
        self.about = ""
        """In a line, what is frozen and how long; empty where nothing is."""
        if recipe.model.freeze == "none":
            return
        modules, own = _frozen(model, recipe.model.freeze)
        learn = {id(each) for head in heads(model) for each in head.parameters()}
        self._parameters = [
            each
            for each in dict.fromkeys([*own, *(each for module in modules for each in module.parameters())])
            if each.requires_grad and id(each) not in learn
        ]
        self._norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _NormBase)]
        if not self._until:
            for each in self._parameters:
                each.requires_grad_(False)
            slower = recipe.optimizer.backbone_lr_factor != 1
            if slower and not any(each.requires_grad and id(each) not in learn for each in model.parameters()):
                what = "has no effect, as all but the head is frozen for good"
                raise RecipeError("optimizer.backbone_lr_factor", what, "Remove it, or set model.unfreeze_at.")
        self.about = self._said(recipe)

    def begin_epoch(self, epoch: int) -> bool:
        """Epoch number `epoch`, from 0, begins: whether what was held is let go now."""
        holds = bool(self._parameters) and (not self._until or epoch < self._until)
        for each in self._parameters:
            each.requires_grad_(not holds)
            if holds:
                each.grad = None  # of a step that was taken back
        let_go, self._holds = self._holds and not holds, holds
        if self._model.training:
            self.train()
        return let_go

    def train(self) -> None:
        """`model.train()`, but for what is held."""
        self._model.train()
        for norm in self.norms:
            norm.eval()

    @property
    def norms(self) -> list[nn.Module]:
        """The norms that are held now."""
        return self._norms if self._holds else []

    def _said(self, recipe: Recipe) -> str:
        count = sum(each.numel() for each in self._parameters)
        total = sum(each.numel() for each in self._model.parameters())
        said = f"frozen: {count:,} of {total:,} parameters"
        if not self._until:
            return said
        epochs = "epoch" if self._until == 1 else f"{self._until} epochs"
        return f"{said} in the first {epochs}" + (", the whole run" if self._until >= recipe.training.epochs else "")


def _frozen(model: nn.Module, freeze: str | int) -> tuple[list[nn.Module], Iterable[nn.Parameter]]:
    """The modules to hold, and weights beside them."""
    if isinstance(freeze, str):
        ends = {inner for head in heads(model) for inner in head.modules()}
        # Of a module that holds the head only what is its own: what is inside it comes by itself.
        before = [module for module in model.modules() if module not in ends]
        leaves = [module for module in before if next(module.children(), None) is None]
        return leaves, [parameter for module in before for parameter in module.parameters(recurse=False)]
    found = blocks(model)
    if freeze > len(found):
        there = f"{len(found)} blocks before its head: {', '.join(block.name for block in found)}"
        remedy = 'Give fewer, or freeze = "backbone".' if found else 'Set freeze = "none".'
        raise RecipeError("model.freeze", f"the model has {there if found else 'nothing but a head'}", remedy)
    held = found[:freeze]
    return [m for block in held for m in block.modules], [p for block in held for p in block.own]
