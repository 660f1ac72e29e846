"""Optimizer steps by torch's fused kernels, without the Python that torch puts around each of them.

`SGD.step` takes 90 µs for a small perceptron, of which the kernel is 30: the rest looks for what has not changed since
the step before. Here the kernel that torch would call is called at once, where the state is there that it needs.
https://docs.pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.optim.optimizers import is_walkable

Group = Mapping[str, Any]
States = Sequence[Mapping[str, Any]]
_NOTHING: Mapping[str, Any] = {}


class Steps:
    """Takes the steps of one optimizer: by a kernel where that can be, else as the optimizer itself does it.

    The bits are those of `optimizer.step`. What is not fused, since gradients may be missing, sparse or laid out
    otherwise than their weights, is done by a kernel, which rounds otherwise, in each step in which all is there and
    none is so.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, chosen: bool = False) -> None:
        """`chosen` says that the recipe itself names the way in which steps are done."""
        self._optimizer = optimizer
        kernel = _KERNELS.get(type(optimizer))
        able = kernel is not None and _simple(optimizer) and kernel.takes(optimizer, chosen=chosen)
        self._kernel = kernel if able and _does_the_same(type(optimizer)) else None  # type: ignore[arg-type]

    def step(self) -> None:
        """Move the weights by their gradients."""
        if self._kernel is None or _hooked(self._optimizer) or not self._at_once(self._kernel):
            self._optimizer.step()

    def _at_once(self, kernel: _Kernel) -> bool:
        """Whether the step is done. All groups are looked at before the weights of one are moved."""
        state = self._optimizer.state
        work: list[tuple[Group, list[Tensor], list[Tensor], States]] = []
        for group in self._optimizer.param_groups:
            pairs = [(each, each.grad) for each in group["params"] if each.grad is not None]
            if not pairs:
                continue
            parameters, gradients = map(list, zip(*pairs, strict=True))
            states = [state.get(each, _NOTHING) for each in parameters]
            if isinstance(group["lr"], Tensor) or any(gradient.is_sparse for gradient in gradients):
                return False
            if not kernel.ready(group, parameters, gradients, states):
                return False
            work.append((group, parameters, gradients, states))
        with torch.no_grad():
            for each in work:
                kernel.run(*each)
        self._optimizer._opt_called = True  # type: ignore[attr-defined]  # schedulers warn of steps that they missed
        return True


class _Kernel(Protocol):
    """One of torch's fused kernels and what it needs."""

    def takes(self, optimizer: torch.optim.Optimizer, *, chosen: bool) -> bool:
        """Whether this optimizer's steps may be done by it at all."""

    def ready(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], states: States) -> bool:
        """Whether this step of a group may."""

    def run(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], states: States) -> None:
        """Do it."""


class _Sgd:
    """The momentum of a weight is made by the first step that has a gradient for it, which is torch's."""

    def takes(self, optimizer: torch.optim.Optimizer, *, chosen: bool) -> bool:
        return _fused(optimizer) or (not chosen and all(map(is_walkable, _parameters(optimizer))))

    def ready(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], states: States) -> bool:
        momentum = [state.get("momentum_buffer") for state in states] if group["momentum"] else []
        if any(each is None for each in momentum):
            return False
        alike = not momentum or _laid_alike(parameters, momentum)
        return bool(group["fused"]) or (alike and _laid_alike(parameters, gradients))

    def run(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], states: States) -> None:
        torch._fused_sgd_(
            parameters,
            gradients,
            [state["momentum_buffer"] for state in states] if group["momentum"] else [],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            is_first_step=False,
        )


class _Adam:
    """Adam and AdamW: the second is the first with another kernel."""

    def takes(self, optimizer: torch.optim.Optimizer, *, chosen: bool) -> bool:
        if any(group["capturable"] for group in optimizer.param_groups):
            return False
        # Where it is not fused, the steps are counted on the CPU.
        by_step = all(is_walkable(each, ("cpu",)) for each in _parameters(optimizer))
        return _fused(optimizer) or (not chosen and by_step)

    def ready(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], states: States) -> bool:
        if not all(states):
            return False
        return bool(group["fused"]) or (
            _laid_alike(parameters, gradients) and _laid_alike(parameters, [state["exp_avg"] for state in states])
        )

    def run(self, group: Group, parameters: list[Tensor], gradients: list[Tensor], states: States) -> None:
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        step = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        step(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=group["amsgrad"],
            maximize=group["maximize"],
        )


_KERNELS: Mapping[type[torch.optim.Optimizer], _Kernel] = {
    torch.optim.SGD: _Sgd(),
    torch.optim.Adam: _Adam(),
    torch.optim.AdamW: _Adam(),
}


def _fused(optimizer: torch.optim.Optimizer) -> bool:
    return all(group["fused"] for group in optimizer.param_groups)


def _hooked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether somebody wants to be told of steps."""
    everywhere = vars(sys.modules[torch.optim.Optimizer.__module__])
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or everywhere.get("_global_optimizer_pre_hooks")
        or everywhere.get("_global_optimizer_post_hooks")
    )


def _laid_alike(parameters: list[Tensor], others: Sequence[Tensor | None]) -> bool:
    """Whether each of the others lies in memory as its parameter does."""
    return all(
        other is not None and other.stride() == each.stride() for each, other in zip(parameters, others, strict=True)
    )


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"]]


def _simple(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all is of one kind, on one device, and told in plain numbers: torch sorts it out at each step."""
    kinds = {(each.dtype, each.device) for each in _parameters(optimizer)}
    told = [value for group in optimizer.param_groups for key, value in group.items() if key != "params"]
    return len(kinds) == 1 and not any(isinstance(value, Tensor) for value in told)


@cache
def _does_the_same(kind: type[torch.optim.Optimizer]) -> bool:
    """Whether three steps on two numbers come to torch's own bits: the kernels are not promised to any other torch."""

    def trained(steps: int) -> Tensor:
        weight = torch.nn.Parameter(torch.tensor([0.5, -1.25]))
        momentum: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        optimizer = kind([weight], lr=0.1, weight_decay=0.01, fused=True, **momentum)  # type: ignore[call-arg]
        for number in range(3):
            weight.grad = torch.tensor([0.3, 0.7]) * (number + 1)
            if number < steps:
                optimizer.step()
                continue
            group, kernel = optimizer.param_groups[0], _KERNELS[kind]
            with torch.no_grad():
                kernel.run(group, [weight], [weight.grad], [optimizer.state[weight]])
        return weight.detach()

    with torch.device("cpu"):
        try:
            return torch.equal(trained(3), trained(1))
        except (AttributeError, TypeError, RuntimeError):
            return False
