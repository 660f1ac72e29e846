"""How each layer fares: gradient norm, weight norm, size of the update against the weights, share of dead units.

Looked at on every n-th step only, so that it costs under a percent; see benchmarks/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.insight.facts import Checkup, LayerHealth
from engine.policies.splitting import is_out_of_memory


class Health:
    """Looks at every `every`-th step of a model; 0 is never. For the engine thread alone.

    `begin` before the forward pass, `after_backward` with the factor that gradient scaling put on the gradients,
    `after_update` when the optimizer has moved the weights. Everything stays on the device until `read`. A unit is dead
    that gives 0 for every sample of the step, in however many parts it is computed. A step is not looked at when the
    memory does not suffice for it.
    """

    def __init__(self, model: nn.Module, every: int, *, hooks: bool = True) -> None:
        """Without `hooks` dead units are not counted: a compiled model would be compiled again for them."""
        self._every = every
        modules = {f"{name} {type(module).__name__}".strip(): module for name, module in model.named_modules()}
        self._layers = {
            name: [p for p in module.parameters(recurse=False) if p.requires_grad] for name, module in modules.items()
        }
        self._layers = {name: parameters for name, parameters in self._layers.items() if parameters}
        self._activations = {name: m for name, m in modules.items() if hooks and _can_die(m)}
        self._model = model
        self._handles: list[Any] = []
        self._silent: dict[tuple[str, int], Tensor] = {}  # (layer, n-th call in a forward pass) → mask of its units
        self._calls: Counter[str] = Counter()
        self._dead: dict[str, Tensor] = {}
        self._before: list[Tensor] = []
        self._found: list[tuple[int, dict[str, list[Tensor]], dict[str, Tensor]]] = []
        self._gradients: list[Tensor] = []
        self._looking = False

    def begin(self, step: int) -> None:
        """Step number `step` begins."""
        self._looking = self._every > 0 and (step % self._every == 0 or step == 1) and bool(self._layers)
        if self._looking:
            self._silent, self._dead, self._gradients = {}, {}, []
            self._handles = [m.register_forward_hook(self._counter(name)) for name, m in self._activations.items()]
            if self._handles:
                self._handles.append(self._model.register_forward_pre_hook(self._begin_part))

    def after_backward(self, scale: Tensor | None = None) -> None:
        """The gradients of the step are there; `scale` is what they were multiplied by."""
        if not self._looking or self._gradients:
            return
        self._unhook()
        try:
            self._look(scale)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.drop()  # the look takes room for the weights once more, and the step is worth more than it

    def after_update(self, step: int) -> None:
        """The optimizer has made its step."""
        if not self._looking:
            return
        self._looking = False
        self._unhook()
        if not self._gradients:
            return
        with torch.no_grad():
            flat = [parameter.detach() for parameters in self._layers.values() for parameter in parameters]
            weights = torch._foreach_norm(self._before)
            torch._foreach_sub_(self._before, flat)
            updates = torch._foreach_norm(self._before)
        self._before = []
        columns = {"gradient": self._gradients, "weight": list(weights), "update": list(updates)}
        self._found.append((step, columns, self._dead))

    def drop(self) -> None:
        """The step is taken back."""
        self._looking = False
        self._unhook()
        self._silent = {}
        self._before, self._gradients = [], []

    def forget(self) -> None:
        """The training goes back: what was found and not yet read is of steps that are no more."""
        self.drop()
        self._found = []

    def read(self) -> list[Checkup]:
        """What was found since the last call. To be called where the loop syncs anyway."""
        found, self._found = self._found, []
        return [self._checkup(*each) for each in found]

    def _checkup(self, step: int, columns: Mapping[str, Sequence[Tensor]], dead: Mapping[str, Tensor]) -> Checkup:
        numbers = {kind: torch.stack([n.float() for n in column]).tolist() for kind, column in columns.items()}
        layers, at = [], 0
        for name, parameters in self._layers.items():
            of = slice(at, at + len(parameters))
            at = of.stop
            norm = {kind: sum(value * value for value in column[of]) ** 0.5 for kind, column in numbers.items()}
            update = norm["update"] / norm["weight"] if norm["weight"] else None
            layers.append(LayerHealth(name, norm["gradient"], norm["weight"], update))
        return Checkup(step, [*layers, *(LayerHealth(name, dead=float(share)) for name, share in dead.items())])

    def _look(self, scale: Tensor | None) -> None:
        flat = [parameter for parameters in self._layers.values() for parameter in parameters]
        present = [p.grad if p.grad is not None else torch.zeros_like(p) for p in flat]
        self._gradients = list(torch._foreach_norm(present))
        if scale is not None:
            self._gradients = [norm / scale for norm in self._gradients]
        self._before = [parameter.detach().clone() for parameter in flat]
        masks: dict[str, list[Tensor]] = {}
        for (name, _), mask in self._silent.items():
            masks.setdefault(name, []).append(mask)
        self._silent = {}
        self._dead = {name: torch.cat(several).float().mean() for name, several in masks.items()}

    def _begin_part(self, model: nn.Module, inputs: Any) -> None:
        self._calls.clear()

    def _counter(self, name: str) -> Callable[..., None]:
        def count(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim > 1:
                unit = 2 if output.ndim == 3 else 1  # of sequences (B, T, C) the last axis, of pictures the channels
                others = [axis for axis in range(output.ndim) if axis != unit]
                mask = (output.detach() == 0).all(dim=others)
                call = name, self._calls[name]  # one activation may be called at several places of a model
                self._calls[name] += 1
                before = self._silent.get(call)
                self._silent[call] = mask if before is None or before.shape != mask.shape else before & mask

        return count

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _can_die(module: nn.Module) -> bool:
    """Whether it is an activation that makes exactly 0 of a whole half line, found by trying."""
    if type(module).__module__ != nn.ReLU.__module__ or any(True for _ in module.parameters()):
        return False
    training = module.training
    try:
        with torch.no_grad():
            return bool((module.eval()(torch.tensor([[-9.0, -8.0]])) == 0).all())
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes other shapes
        return False
    finally:
        module.train(training)
