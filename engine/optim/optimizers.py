"""The recipe's optimizer over a model: parameter groups, and two optimizers as one where one takes matrices only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine import catalog
from engine.catalog import REQUIRED, Entry
from engine.errors import RecipeError, first_line
from engine.models.heads import heads, is_norm
from engine.recipe import Optimizer as Part
from engine.recipe import Recipe

WAYS = {"fused", "foreach", "capturable", "differentiable"}
"""Parameters by which a recipe names the way in which torch does a step."""
_WITH_MATRICES = "AdamW"  # what takes the other parameters where an optimizer takes matrices only


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over what `model` trains, group 0 at the full rate, tried out on a step.

    Raises RecipeError, also for an optimizer that can't do a step on dense gradients. Draws no random number.
    """
    part = recipe.optimizer
    entry = catalog.find("optimizer", catalog.optimizers(), part.name, "optimizer")
    entry.check(part.parameters, "optimizer")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError("model", "has no parameter to train", "Add a layer with weights, such as Linear.")
    # Gradients of one's own model may be sparse or laid out otherwise, and torch's fused SGD wants the momentum of all
    # of a group or of none: kernels.py looks at them step by step. A first step that overflows leaves fused SGD with
    # a momentum that nobody has written to.
    overflows = part.name == "SGD" and recipe.training.precision == "fp16"
    fused = not (recipe.model.python or recipe.model.unfreeze_at or overflows)
    optimizer = _make(entry, part, model, fused=fused)
    _try_a_step(entry, part)
    return optimizer


def remembered(recipe: Recipe) -> set[str]:
    """The names of what the recipe's optimizer keeps of parameters from step to step, such as `momentum_buffer`."""
    part = recipe.optimizer
    optimizer = _try_a_step(catalog.find("optimizer", catalog.optimizers(), part.name, "optimizer"), part)
    return {name for values in optimizer.state.values() for name in values}


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step evaluates the loss by itself, as often as it likes (LBFGS)."""
    return _closure_required(type(optimizer))


class Both(torch.optim.Optimizer):
    """Several optimizers over different parameters as one: their groups and their state are shared, not copied.

    So a scheduler, a gradient scaler and a checkpoint that know this one reach all parts.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        shared = {k: v for k, v in parts[0].defaults.items() if all(k in part.defaults for part in parts)}
        super().__init__([group for part in parts for group in part.param_groups], shared)
        self._link()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state, and hand it to the parts."""
        super().load_state_dict(state_dict)  # makes new groups and a new state
        self._link()

    def _link(self) -> None:
        groups = iter(self.param_groups)
        for part in self.parts:
            part.state = self.state
            part.param_groups = [next(groups) for _ in part.param_groups]


@dataclass(frozen=True)
class _Role:
    """What a parameter is in the model."""

    parameter: nn.Parameter
    decayed: bool
    head: bool
    hidden_matrix: bool


def _roles(model: nn.Module) -> list[_Role]:
    """Every trained parameter once, a tied one by the first module that holds it."""
    head = {id(each) for module in heads(model) for each in module.parameters()}
    roles: dict[int, _Role] = {}
    for module in model.modules():
        norm = is_norm(module)
        embedding = isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        for each in _trained(module):
            at_head = id(each) in head
            matrix = each.ndim == 2 and not (norm or embedding or at_head)
            roles.setdefault(id(each), _Role(each, each.ndim > 1 and not norm, at_head, matrix))
    return list(roles.values())


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]


def _make(entry: Entry, part: Part, model: nn.Module, *, fused: bool = True) -> torch.optim.Optimizer:
    roles = _roles(model)
    values: Mapping[str, Any] = part.parameters
    if not fused or any(getattr(module, "sparse", False) for module in model.modules()):
        values = _unfused(entry, values)  # there is no kernel for sparse gradients
    if part.backbone_lr_factor != 1 and _closure_required(entry.target):
        what = f"{entry.name} has one rate for all parameters"
        raise RecipeError("optimizer.backbone_lr_factor", what, f"Remove it, or choose {_WITH_MATRICES}.")
    if not _takes_matrices_only(entry, values):
        return _over(entry, values, part, roles)
    matrices = [role for role in roles if role.hidden_matrix]
    others = [role for role in roles if not role.hidden_matrix]
    if not matrices:
        what = f"{entry.name} trains hidden matrices only, and the model has none (embeddings and the head don't count)"
        raise RecipeError("optimizer.name", what, f"Use {_WITH_MATRICES}.")
    rest = catalog.optimizers()[_WITH_MATRICES]
    alike = {"lr": part.lr, **({"weight_decay": _decay(entry, values)} if entry.parameter("weight_decay") else {})}
    alike = alike if fused else _unfused(rest, alike)
    # The head's group comes first: group 0 is the one whose rate is shown.
    return Both(_over(rest, alike, part, others), _over(entry, values, part, matrices))


def _over(entry: Entry, values: Mapping[str, Any], part: Part, roles: Sequence[_Role]) -> torch.optim.Optimizer:
    """`entry` over the parameters of `roles`, in as few groups as there are differences; the head's come first."""
    split = bool(_decay(entry, values)) and not part.weight_decay_on_norms
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for role in roles:
        behind = part.backbone_lr_factor != 1 and not role.head
        groups.setdefault((behind, split and not role.decayed), []).append(role.parameter)
    made = []
    for (behind, bare), parameters in sorted(groups.items(), key=lambda item: item[0]):
        group: dict[str, Any] = {"params": parameters}
        if behind:
            group["lr"] = part.lr * part.backbone_lr_factor
        if bare:
            group["weight_decay"] = 0.0
        made.append(group)
    if _can_be_fused(entry, values, [role.parameter for role in roles]):
        values = {**values, "fused": True}
    return entry.make(values, "optimizer", made)  # type: ignore[no-any-return]


def _unfused(entry: Entry, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"fused": False, **values} if entry.parameter("fused") else dict(values)


def _can_be_fused(entry: Entry, values: Mapping[str, Any], parameters: Sequence[Tensor]) -> bool:
    """Whether torch can do the step in one kernel, and the recipe leaves the choice to us.

    Measured on a CPU with torch 2.15: AdamW over the weights of a small CNN takes 0.34 ms a step instead of 1.34, SGD
    0.14 instead of 0.21; the results differ by rounding. https://docs.pytorch.org/docs/stable/optim.html
    """
    devices = {"cpu"} if entry.name == "Adagrad" else {"cpu", "cuda"}  # it has the parameter, and no kernel for CUDA
    return (
        entry.parameter("fused") is not None
        and not WAYS & set(values)
        and all(is_walkable(each, devices) for each in parameters)
    )


def is_walkable(parameter: Tensor, devices: Collection[str] = ("cpu", "cuda")) -> bool:
    """Whether a fused kernel can walk it, its gradient and its moments side by side as they lie in memory."""
    dense = parameter.is_contiguous() or parameter.is_contiguous(memory_format=torch.channels_last)
    return dense and parameter.is_floating_point() and parameter.device.type in devices


def _decay(entry: Entry, values: Mapping[str, Any]) -> float:
    """The weight decay in effect: the recipe's, else torch's default, 0 where there is none."""
    parameter = entry.parameter("weight_decay")
    return float(values.get("weight_decay", parameter.default)) if parameter else 0.0


def _takes_matrices_only(entry: Entry, values: Mapping[str, Any]) -> bool:
    """Whether torch makes it for a matrix and refuses to make it for a vector."""

    def made(*shape: int) -> bool:
        try:
            entry.make(values, "optimizer", [nn.Parameter(torch.zeros(shape))])
        except RecipeError:
            return False
        return True

    return not made(2) and made(2, 2)


def _closure_required(kind: Any) -> bool:
    closure = inspect.signature(kind.step).parameters.get("closure")
    return closure is not None and closure.default is REQUIRED


def _try_a_step(entry: Entry, part: Part) -> torch.optim.Optimizer:
    """One step on two tiny layers on the CPU: what torch refuses only in a step is said before the training."""
    with torch.device("meta"):  # where nothing is drawn
        layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    layers.to_empty(device="cpu")
    for parameter in layers.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.ones_like(parameter)
    optimizer = _make(entry, part, layers)
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = False  # is for CUDA graphs, and refused on the CPU
    try:
        optimizer.step(lambda: 1.0)
    except Exception as error:  # torch refuses with every kind of exception
        what = f"{entry.name} can't train this: {first_line(error)}"
        raise RecipeError("optimizer", what, f"Use {_WITH_MATRICES}.") from error
    return optimizer
