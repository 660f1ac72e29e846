"""How each layer fares: gradient norm, weight norm, size of the update against the weights, share of dead units.

And how its weights, outputs and gradients are spread.

Looked at on every n-th step only, so that it costs under a percent; see benchmarks/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.insight.counting import Tally, first_tensor, tally
from engine.insight.facts import Checkup, LayerHealth
from engine.insight.histograms import CODES, KINDS, Histogram, Spread
from engine.policies.splitting import is_out_of_memory


@dataclass(frozen=True)
class _Found:
    """One step's numbers, still on the device: norms by kind and parameter, and (n, 2048) counts of what `told` names.

    `told` holds (layer, kind, how many numbers, zeros that were not counted).
    """

    step: int
    norms: Mapping[str, Sequence[Tensor]]
    dead: Mapping[str, Tensor]
    counts: Tensor | None
    told: Sequence[tuple[str, str, int, int]]


class Health:
    """Looks at every `every`-th step of a model; 0 is never. For the engine thread alone.

    `begin` before the forward pass and before it is done anew, `after_backward` with the factor that gradient scaling
    put on the gradients, `after_update` when the optimizer has moved the weights. Everything stays on the device until
    `read`. A unit is dead that gives 0 for every sample of the step, in however many parts it is computed. A step is
    not looked at when the memory does not suffice for it.
    """

    def __init__(self, model: nn.Module, every: int, *, hooks: bool = True) -> None:
        """Without `hooks` no outputs are looked at: a compiled model would be compiled again for them."""
        self._every = every
        modules = {f"{name} {type(module).__name__}".strip(): module for name, module in model.named_modules()}
        self._layers = {
            name: [p for p in module.parameters(recurse=False) if p.requires_grad] for name, module in modules.items()
        }
        self._layers = {name: parameters for name, parameters in self._layers.items() if parameters}
        self._weighted = {name: modules[name] for name in self._layers if hooks}
        self._activations = {name: m for name, m in modules.items() if hooks and _can_die(m)}
        self._model = model
        self._handles: list[Any] = []
        self._silent: dict[tuple[str, int], Tensor] = {}  # (layer, n-th call in a forward pass) → mask of its units
        self._calls: Counter[str] = Counter()
        self._dead: dict[str, Tensor] = {}
        self._before: list[Tensor] = []
        self._found: list[_Found] = []
        self._gradients: list[Tensor] = []
        self._outputs: dict[str, Tally] | None = {}  # None: they have no room
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._looking = self._forward = False

    def begin(self, step: int) -> None:
        """Step number `step` begins, or is done anew."""
        self._unhook()
        self._looking = self._every > 0 and (step % self._every == 0 or step == 1) and bool(self._layers)
        if self._looking:
            self._silent, self._dead, self._gradients, self._outputs = {}, {}, [], {}
            self._handles = [m.register_forward_hook(self._counter(name)) for name, m in self._activations.items()]
            self._handles += [m.register_forward_hook(self._teller(name)) for name, m in self._weighted.items()]
            if self._handles:
                self._handles.append(self._model.register_forward_pre_hook(self._begin_part))
                self._handles.append(self._model.register_forward_hook(self._end_part))

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
        norms = {"gradient": self._gradients, "weight": list(weights), "update": list(updates)}
        told = [(*of, tally.total, tally.zeros) for of, tally in self._tallies.items()]
        # 8 kB each: many steps may be looked at before they are read.
        counts = torch.stack([tally.counts for tally in self._tallies.values()]).int() if told else None
        self._found.append(_Found(step, norms, self._dead, counts, told))
        self._tallies = {}

    def drop(self) -> None:
        """The step is taken back."""
        self._looking = False
        self._unhook()
        self._silent, self._outputs, self._tallies = {}, {}, {}
        self._before, self._gradients = [], []

    def forget(self) -> None:
        """The training goes back: what was found and not yet read is of steps that are no more."""
        self.drop()
        self._found = []

    def read(self) -> list[Checkup]:
        """What was found since the last call. To be called where the loop syncs anyway."""
        found, self._found = self._found, []
        return [self._checkup(each) for each in found]

    def _checkup(self, found: _Found) -> Checkup:
        columns = [*found.norms.values(), list(found.dead.values())]
        floats = torch.stack([number.float() for column in columns for number in column])
        # One read: the counts' bits as they are behind the norms' bits.
        bits = [floats.view(torch.int32), *([found.counts.flatten()] if found.counts is not None else [])]
        read = torch.cat(bits).cpu().numpy()
        numbers, counts = read[: len(floats)].view(np.float32).tolist(), read[len(floats) :].reshape(-1, CODES)
        layers, at, per_kind = [], 0, len(found.norms["weight"])
        for name, parameters in self._layers.items():
            norm = {}
            for place, kind in enumerate(found.norms):
                first = place * per_kind + at
                norm[kind] = sum(value * value for value in numbers[first : first + len(parameters)]) ** 0.5
            at += len(parameters)
            update = norm["update"] / norm["weight"] if norm["weight"] else None
            layers.append(LayerHealth(name, norm["gradient"], norm["weight"], update))
        shares = numbers[len(found.norms) * per_kind :]
        layers += [LayerHealth(name, dead=share) for name, share in zip(found.dead, shares, strict=True)]
        kinds: dict[str, dict[str, Histogram]] = {}
        histograms = Histogram.each(counts, [total for *_, total, _ in found.told], [zeros for *_, zeros in found.told])
        for (name, kind, *_), histogram in zip(found.told, histograms, strict=True):
            kinds.setdefault(name, {})[kind] = histogram
        return Checkup(found.step, layers, {name: Spread(**each) for name, each in kinds.items()})

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
        self._tallies = self._tallied(scale)

    def _tallied(self, scale: Tensor | None) -> dict[tuple[str, str], Tally]:
        """Of each layer and kind what there is to count."""
        found: dict[tuple[str, str], Tally | None] = {}
        for name, parameters in self._layers.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            columns = tally(parameters), (self._outputs or {}).get(name), tally(gradients, scale)
            found.update({(name, kind): column for kind, column in zip(KINDS, columns, strict=True)})
        self._outputs = {}
        return {of: counted for of, counted in found.items() if counted is not None}

    def _end_part(self, model: nn.Module, inputs: Any, output: Any) -> None:
        self._forward = False

    def _teller(self, name: str) -> Callable[..., None]:
        def tell(module: nn.Module, inputs: Any, output: Any) -> None:
            tensor = first_tensor(output)
            # Gradient checkpointing calls layers again in the backward pass, which would count them twice.
            if tensor is None or self._outputs is None or not self._forward:
                return
            try:
                told = tally([tensor])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._outputs = None  # the step itself may still have room
                return
            if told is not None:
                before = self._outputs.get(name)
                self._outputs[name] = told if before is None else before + told

        return tell

    def _begin_part(self, model: nn.Module, inputs: Any) -> None:
        self._calls.clear()
        self._forward = True

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
