"""What a person calls the blocks and the head of a model, found in any model by its structure.

The head is the last module with weights to train, and with it the auxiliary heads that a model names in a tuple
`auxiliary_heads`. Blocks are what lies before, in the order in which the model registers it: its children that have
weights, where a model of fewer than four of them has its largest child opened until there are four. A normalisation
belongs to the block before it, and so do weights that an opened module holds itself to the first block inside it.

resnet18: conv1, layer1, layer2, layer3, layer4 · vgg11: its convolutions and two linear layers · vit_b_16: conv_proj
and the twelve layers of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

_ENOUGH = 4
_NORMS = {f"torch.nn.modules.{name}" for name in ("batchnorm", "instancenorm", "normalization")}


@dataclass(frozen=True)
class Block:
    """A part of a model that can be frozen; `own` are weights beside those of `modules`."""

    name: str
    modules: tuple[nn.Module, ...]
    own: tuple[nn.Parameter, ...] = ()

    def parameters(self) -> list[nn.Parameter]:
        """All weights of the block."""
        return [*self.own, *(parameter for module in self.modules for parameter in module.parameters())]


def is_norm(module: nn.Module) -> bool:
    """Whether it is one of torch's normalisations, or derived from one."""
    return any(base.__module__ in _NORMS for base in type(module).__mro__)


def heads(model: nn.Module) -> list[nn.Module]:
    """The modules that make the outputs, auxiliary ones first; empty where nothing is to be trained."""
    named = [model.get_submodule(name) for name in getattr(model, "auxiliary_heads", ())]
    inside = {module for head in named for module in head.modules()}
    holders = [module for module in model.modules() if module not in inside and _trained(module)]
    return [*named, *holders[-1:]]


def blocks(model: nn.Module) -> list[Block]:
    """The model's blocks before the head."""
    ends = set(heads(model))
    found = [] if model in ends else _opened(Block("", (model,)), ends)
    while (inner := next((each for each in found if _holds(each, ends)), None)) is not None:
        found = _replaced(found, inner, ends)
    while len(merged := _merged(found)) < _ENOUGH:
        closed = [block for block in found if len(block.modules) == 1 and _weighty(block.modules[0].children(), ends)]
        if not closed:
            break
        found = _replaced(found, max(closed, key=_size), ends)
    return merged


def _opened(block: Block, ends: set[nn.Module]) -> list[Block]:
    """The block's children in place of it."""
    (module,) = block.modules
    strays = (*block.own, *module.parameters(recurse=False))
    children = [
        Block(f"{block.name}.{name}".lstrip("."), (child,))
        for name, child in module.named_children()
        if child not in ends and next(child.parameters(), None) is not None
    ]
    if not strays:
        return children
    if not children:
        return [Block(block.name or type(module).__name__, (), strays)]
    first, *others = children
    return [Block(first.name, first.modules, strays), *others]


def _replaced(found: list[Block], which: Block, ends: set[nn.Module]) -> list[Block]:
    return [new for block in found for new in (_opened(block, ends) if block is which else [block])]


def _merged(found: list[Block]) -> list[Block]:
    """With each normalisation in the block before it."""
    merged: list[Block] = []
    for block in found:
        if merged and all(map(is_norm, block.modules)):
            before = merged.pop()
            block = Block(before.name, (*before.modules, *block.modules), (*before.own, *block.own))
        merged.append(block)
    return merged


def _holds(block: Block, ends: set[nn.Module]) -> bool:
    return any(inner in ends for module in block.modules for inner in module.modules())


def _weighty(modules: Iterable[nn.Module], ends: set[nn.Module]) -> bool:
    return any(module not in ends and next(module.parameters(), None) is not None for module in modules)


def _size(block: Block) -> int:
    return sum(parameter.numel() for parameter in block.parameters())


def _trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))
