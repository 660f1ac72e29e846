"""CUDA graphs by torch.compile(mode="reduce-overhead"): what a training must do differently where they replay a model.

A graph always writes to the same memory. Outputs and gradients lie there until it runs the next time, and who wants one
for longer must copy it: torch raises an error for outputs, and for gradients that add up over micro-batches it says
nothing and computes wrong ones (pytorch/pytorch#96693, #169545).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.tasks.base import Outcome

GRAPHS: Literal["reduce-overhead"] = "reduce-overhead"


class Graphs:
    """What keeps one training's tensors safe from the graphs of its model; does nothing where there are none."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, on: bool) -> None:
        self.on = on
        self._parameters = list(parameters)
        self._ours: dict[nn.Parameter, Tensor] = {}

    def begin_part(self, *, first: bool) -> None:
        """A forward pass is next; `first` says that the gradients of a step begin with it."""
        if first:
            self._ours = {}
        if self.on:
            # torch would find out by itself, but for a part whose backward pass never came: the loss was not finite.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def keep_gradients(self) -> None:
        """Another part's backward pass is to add to these gradients: take them out of the graph's memory, once."""
        if not self.on:
            return
        for parameter in self._parameters:
            if parameter.grad is not None and self._ours.get(parameter) is not parameter.grad:
                parameter.grad = self._ours[parameter] = parameter.grad.clone()

    def keep(self, outcome: Outcome) -> Outcome:
        """What is looked at after the next forward pass."""
        return replace(outcome, outputs=outcome.outputs.detach().clone()) if self.on else outcome


def as_written(model: nn.Module, *, on: bool) -> AbstractContextManager[Any]:
    """Inside, a model with graphs computes as it is written, with nothing compiled or recorded.

    For validation: its tensors are of inference mode, which a graph would mix with those of training (#135892), and it
    may have batches of other sizes.
    """
    if not on or model._compiled_call_impl is None:
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def ready_this_thread() -> None:
    """Let graphs be recorded in this thread, and in those of its backward passes.

    Older torch does it only for the thread that imports the module, and fails in any other (#123177).
    """
    from torch._inductor import cudagraph_trees as trees  # takes seconds to import

    if not torch._C._is_key_in_tls("tree_manager_containers"):
        trees.local.tree_manager_containers = {}
        trees.local.tree_manager_locks = defaultdict(threading.Lock)
        torch._C._stash_obj_in_tls("tree_manager_containers", trees.local.tree_manager_containers)
        torch._C._stash_obj_in_tls("tree_manager_locks", trees.local.tree_manager_locks)
