"""`[loss]` and what is measured, as Python."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from engine import catalog
from engine.code import arguments, block, call, literal
from engine.data.prepare import Facts
from engine.export.data import spread_def
from engine.recipe import Recipe
from engine.tasks.classification import one_hot, signs
from engine.tasks.losses import fit_loss, make_task


class LossCode:
    """Expressions with the recipe's loss, and the function `evaluate`; `needs` are functions of ours.

    Raises RecipeError.
    """

    def __init__(self, recipe: Recipe, facts: Facts) -> None:
        self._recipe, self._facts = recipe, facts
        self._classes = recipe.task == "classification"
        counts = tuple(range(1, facts.outputs + 1))  # stand for those of the training samples
        balanced = recipe.loss.class_weights == "balanced"
        _, self._form = fit_loss(recipe, facts.outputs, counts if balanced else None)
        task = make_task(recipe, replace(facts, class_counts=counts), torch.device("cpu"))
        self._weighs = self._classes and isinstance(task.weight(torch.tensor([0])), Tensor)
        self.needs: set[str] = set()

    def criterion(self) -> list[str]:
        """The lines that make the loss."""
        recipe = self._recipe
        entry = catalog.losses()[recipe.loss.name]
        written, before = arguments(entry, recipe.loss.parameters, positional=0), list[str]()
        if recipe.loss.class_weights == "balanced":
            self.needs.add("balanced")
            before = ['dataset, index = parts["train"]'] if recipe.data.python else []
            before += ["classes = torch.tensor([int(dataset[i][1]) for i in index.tolist()])"] if before else []
            targets = "classes" if before else 'parts["train"][1]'
            ignored = recipe.loss.parameters.get("ignore_index")
            more = [] if ignored is None else [literal(ignored)]
            before += [f"weight = {call('balanced', [targets, str(self._facts.outputs), *more])}"]
            written = ["weight=weight", *written]
        made = f"criterion = {call(f'nn.{recipe.loss.name}', written)}"
        return [*before, f"{made}.to(device)" if self._on_device() else made]

    def _on_device(self) -> bool:
        balanced = self._recipe.loss.class_weights == "balanced"
        entry = catalog.losses()[self._recipe.loss.name]
        tensors = {each.name for each in entry.parameters if each.takes_tensor}
        return balanced or bool(tensors & set(self._recipe.loss.parameters))

    def given(self, targets: str) -> str:
        """The targets as the loss takes them."""
        if self._form is one_hot:
            return f"F.one_hot({targets}, {self._facts.outputs}).float()"
        if self._form is signs:
            return f"F.one_hot({targets}, {self._facts.outputs}).float() * 2 - 1"
        return targets

    def share(self) -> str:
        """How much of a batch `y` its part `y_part` is."""
        if not self._weighs:
            return "len(y_part) / len(y)"
        ignored = self._recipe.loss.parameters.get("ignore_index")
        weighted = self._recipe.loss.class_weights == "balanced" or "weight" in self._recipe.loss.parameters

        def weight(y: str) -> str:
            if not weighted:
                return f"({y} != {ignored}).sum()"
            known = y if ignored is None else f"{y}[{y} != {ignored}]"
            return f"criterion.weight[{known}].sum()"

        return f"{weight('y_part')} / {weight('y')}"

    def evaluate(self, autocast: str) -> list[str]:
        """The function `evaluate`. `autocast` is the context of its forward pass, or empty."""
        scaled = self._recipe.data.standardize_target
        part = "tuple[Any, Tensor]" if self._recipe.data.python else "tuple[Tensor, Tensor]"
        given = ["model: nn.Module", "criterion: nn.Module", f"part: {part}", "device: torch.device"]
        about = "Loss and accuracy" if self._classes else "Loss, R², mean absolute and root mean squared error"
        unit = ", in the data's own unit" if scaled else ""
        self.needs.add("told")
        output = "model(x.to(device)).float()" if autocast else "model(x.to(device))"
        each = [f"outputs.append({output})", "targets.append(y.to(device))"]
        loop = ["for x, y in batches(*part):", *block(each)]
        return [
            "@torch.inference_mode()",
            *spread_def("evaluate", [*given, *(["std: Tensor"] if scaled else [])], "dict[str, float]"),
            f'    """{about} over a part of the data{unit}."""',
            "    model.eval()",
            "    outputs, targets = [], []",
            *block([f"with {autocast}:", *block(loop)] if autocast else loop),
            "    output, target = torch.cat(outputs), torch.cat(targets)",
            *block(self._accuracy() if self._classes else self._errors(scaled)),
            "",
            "",
        ]

    def _accuracy(self) -> list[str]:
        ignored = self._recipe.loss.parameters.get("ignore_index")
        lines, known = ["right = output.argmax(1) == target"], "right"
        if ignored is not None:
            known = f"right[target != {ignored}]"
        loss = f"criterion(output, {self.given('target')}).item()"
        return [*lines, f'return {{"loss": {loss}, "accuracy": {known}.float().mean().item()}}']

    def _errors(self, scaled: bool) -> list[str]:
        error, off = "output - target", "target - target.mean(0)"
        if scaled:
            error, off = f"({error}) * std", f"({off}) * std"
        return [
            f"error = {error}",
            f"spread = ({off}).square().sum()",
            "return {",
            '    "loss": criterion(output, target).item(),',
            '    "r2": (1 - error.square().sum() / spread).item(),',
            '    "mae": error.abs().mean().item(),',
            '    "rmse": error.square().mean().sqrt().item(),',
            "}",
        ]
