"""`[loss]` and `[training]` as Python: the loop, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from engine.code import block, literal
from engine.data.prepare import Facts
from engine.export.data import DataCode
from engine.export.freezing import FreezingCode
from engine.export.optimizer import OptimizerCode, scheduler_ends, scheduler_lines, warmup_text
from engine.export.scoring import LossCode
from engine.models.auxiliary import SHARE
from engine.policies.backends import lays_channels_last
from engine.recipe import Recipe

_AMP = {"bf16": "torch.bfloat16", "fp16": "torch.float16"}


@dataclass(frozen=True)
class TrainingCode:
    """`constants` stand at the top of the file; `needs` are classes and functions of ours."""

    constants: tuple[str, ...]
    lines: tuple[str, ...]
    needs: frozenset[str]


def training_code(
    recipe: Recipe, facts: Facts, model: nn.Module, data: DataCode, made: str, steps: int
) -> TrainingCode:
    """The functions `make_optimizer`, `evaluate` and `main`.

    `made` is the expression that makes the model, `steps` are those of an epoch. Raises RecipeError.
    """
    writer = _Writer(recipe, facts, model, data, made, steps)
    lines = [*writer.optimizer.lines(), *writer.evaluate(), *writer.main()]
    return TrainingCode(tuple(writer.constants()), tuple(lines), writer.needs)


class _Writer:
    def __init__(self, recipe: Recipe, facts: Facts, model: nn.Module, data: DataCode, made: str, steps: int) -> None:
        self._recipe, self._training, self._facts = recipe, recipe.training, facts
        self._data, self._made = data, made
        self._classes = recipe.task == "classification"
        self._amp = _AMP.get(self._training.precision)
        self._scaled = self._training.precision == "fp16"
        self._own = bool(recipe.model.python or recipe.data.python)
        self._loss = LossCode(recipe, facts)
        self._freezing = FreezingCode(recipe, model)  # what is frozen for good no optimizer takes
        self._auxiliary = bool(getattr(model, "auxiliary_heads", ()))
        self._layout = _layout(recipe, facts, model)
        self.optimizer = OptimizerCode(recipe, model, steps)
        self._scheduler = scheduler_lines(recipe, self.optimizer.rates)
        self._warmup = warmup_text(recipe)

    @property
    def needs(self) -> frozenset[str]:
        """Classes and functions of ours, known when everything is written."""
        own = {"seed_everything"} if self._own else set[str]()
        return frozenset({"pick_device", *own, *self._loss.needs, *self.optimizer.needs})

    def evaluate(self) -> list[str]:
        """The function `evaluate`; none without data to measure on."""
        if set(self._data.parts) == {"train"}:
            return []
        return self._loss.evaluate(self._autocast() if self._amp else "")

    def constants(self) -> list[str]:
        """How long, from which seed, in how many parts."""
        training = self._training
        lines = [f"EPOCHS = {training.epochs}", f"SEED = {training.seed}"]
        if training.accumulate > 1:
            lines.append(f"ACCUMULATE = {training.accumulate}  # parts that each batch is computed in")
        return [*lines, *self._freezing.constants(), 'WEIGHTS = Path(__file__).with_suffix(".pt")']

    def main(self) -> list[str]:
        """The function `main`, and the call of it."""
        body = [*self._begin(), *self._loop(), *self._end()]
        return [
            "def main() -> None:",
            *block(body),
            "",
            "",
            'if __name__ == "__main__":',
            "    main()",
        ]

    def _begin(self) -> list[str]:
        training = self._training
        seed = "seed_everything(SEED)" if self._own else "torch.manual_seed(SEED)"
        lines = [
            "parser = argparse.ArgumentParser()",
            'parser.add_argument("--epochs", type=int, default=EPOCHS)',
            'parser.add_argument("--steps", type=int, default=0, help="end after so many, print the loss of each")',
            f'parser.add_argument("--device", default={literal(training.device)})',
            "arguments = parser.parse_args()",
            "epochs, device = arguments.epochs, pick_device(arguments.device)",
            *self._switches(),
            "",
            seed,
            # A person's own files draw as they are run and read: before the model, as in torch-tui.
            *(["parts = load()", seed] if self._own else []),
            f"model = {self._made}.to(device)  # the weights are drawn on the CPU: the same on every device",
        ]
        if self._layout:
            lines += [f"layout = {self._layout}", "model = model.to(memory_format=layout)"]
        if training.compile:
            lines.append("model.compile()")
        lines += [*self._freezing.begin(), *([] if self._own else ["parts = load()"]), *self._data.fits]
        if self._recipe.data.standardize_target:
            lines += [
                'mean, std = parts["train"][1].mean(0), parts["train"][1].std(0, correction=0).clamp_min(1e-12)',
                "parts = {name: (inputs, (targets - mean) / std) for name, (inputs, targets) in parts.items()}",
                "std = std.to(device)",
            ]
        lines += [
            f"{seed}  # again: dropout draws the same, whatever was drawn before",
            *self._loss.criterion(),
            "optimizer = make_optimizer(model)",
        ]
        if any(" steps" in f" {text}" for text in (*self._scheduler, self._warmup)):
            samples = 'len(parts["train"][1])'
            dropped = f"max(1, {samples} // BATCH_SIZE)"
            count = dropped if self._recipe.data.drop_last else f"math.ceil({samples} / BATCH_SIZE)"
            lines.append(f"steps = {count}  # of an epoch")
        lines += self._scheduler
        if self._warmup:
            lines.append(f"warmup = {self._warmup}  # steps over which the rate rises")
        if self._scaled:
            lines.append("scaler = torch.amp.GradScaler(device.type)")
        return [*lines, "done, best = 0, (-math.inf, -math.inf)" if "val" in self._data.parts else "done = 0", ""]

    def _switches(self) -> list[str]:
        training, lines = self._training, list[str]()
        if training.threads:
            lines.append(f"torch.set_num_threads({training.threads})")
        if training.precision == "tf32":
            lines.append('torch.set_float32_matmul_precision("high")')
            lines.append("torch.backends.cudnn.allow_tf32 = True")
        else:
            lines.append("torch.backends.cudnn.allow_tf32 = False  # fp32 in full; torch's own default rounds on a GPU")
        if training.deterministic:
            lines += [
                'os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it',
                "torch.use_deterministic_algorithms(True)",
                "torch.backends.cudnn.deterministic = True",
            ]
        return lines

    def _autocast(self) -> str:
        return f"torch.autocast(device.type, {self._amp})"

    def _loop(self) -> list[str]:
        step = [
            f"x, y = x.to(device{', memory_format=layout' if self._layout else ''}), y.to(device)",
            *self._step(),
            *self._schedule("step"),
            "total, count = total + loss.detach() * len(y), count + len(y)",
            "done += 1",
            "if arguments.steps:",
            '    print(f"step {done}  loss {loss.item():.9g}", flush=True)',
            "    if done == arguments.steps:",
            "        return",
        ]
        return [
            "for epoch in range(epochs):",
            "    model.train()",
            *block(self._freezing.begin_epoch()),
            "    total, count = torch.zeros((), device=device), 0",
            '    for x, y in batches(*parts["train"], epoch):',
            *block(step, 8),
            *block(self._epoch_end()),
        ]

    # A step

    def _step(self) -> list[str]:
        if self.optimizer.needs_closure:
            return [
                "",
                "def gradients(x: Tensor = x, y: Tensor = y) -> Tensor:  # the optimizer asks for them several times",
                *block([*self._gradients(), *self._clipping(), "return loss"]),
                "",
                *self._warm("loss = optimizer.step(gradients)"),
            ]
        update = "optimizer.step()"
        if self._scaled:
            update = "scaler.step(optimizer)"
        return [
            *self._gradients(),
            *self._clipping(),
            *self._warm(update),
            *(["scaler.update()"] if self._scaled else []),
        ]

    def _gradients(self) -> list[str]:
        """Lines that leave the gradients, and the batch's `loss`."""
        if self._training.accumulate == 1:
            return ["optimizer.zero_grad()", *self._forward("x", "y", "loss"), self._backward("loss")]
        parts = "zip(torch.tensor_split(x, pieces), torch.tensor_split(y, pieces), strict=True)"
        return [
            "optimizer.zero_grad()",
            "pieces = min(ACCUMULATE, len(y))",
            "loss = torch.zeros((), device=device)",
            "# Each part counts by its share of the batch.",
            f"for x_part, y_part in {parts}:",
            *block(
                [
                    *self._forward("x_part", "y_part", "partly"),
                    f"partly = partly * ({self._loss.share()})",
                    self._backward("partly"),
                    "loss += partly.detach()",
                ]
            ),
        ]

    def _forward(self, x: str, y: str, loss: str) -> list[str]:
        if not (self._amp or self._auxiliary):
            return [f"{loss} = criterion(model({x}), {self._loss.given(y)})"]
        whole, given = ".float()" if self._amp else "", self._loss.given(y)
        run = [f"output{', *auxiliary' if self._auxiliary else ''} = model({x})"]
        if self._amp:
            run = [f"with {self._autocast()}:", *block(run)]
        lines = [*run, f"{loss} = criterion(output{whole}, {given})"]
        if self._auxiliary:
            lines.append(f"{loss} += {SHARE} * sum(criterion(each{whole}, {given}) for each in auxiliary)")
        return lines

    def _backward(self, loss: str) -> str:
        return f"scaler.scale({loss}).backward()" if self._scaled else f"{loss}.backward()"

    def _clipping(self) -> list[str]:
        norm, value = self._training.clip_grad_norm, self._training.clip_grad_value
        lines = [f"clip_grad_norm_(model.parameters(), {literal(norm)})"] if norm else []
        lines += [f"clip_grad_value_(model.parameters(), {literal(value)})"] if value else []
        return ["scaler.unscale_(optimizer)", *lines] if lines and self._scaled else lines

    def _warm(self, update: str) -> list[str]:
        """The step, at the rate of the warm-up: the scheduler knows nothing of it."""
        if not self._warmup:
            return [update]
        return [
            'rates = [group["lr"] for group in optimizer.param_groups]',
            "for group in optimizer.param_groups:",
            '    group["lr"] *= min(1.0, (done + 1) / warmup)',
            update,
            "for group, rate in zip(optimizer.param_groups, rates, strict=True):",
            '    group["lr"] = rate',
        ]

    def _schedule(self, every: str) -> list[str]:
        part = self._recipe.scheduler
        if part is None or part.every != every:
            return []
        if part.name == "ReduceLROnPlateau":
            watched = 'measured["loss"]' if "val" in self._data.parts else "total.item() / count"
            return [f"scheduler.step({watched})"]
        if scheduler_ends(self._recipe):
            return [
                "if scheduler.last_epoch < scheduler.total_steps - 1:  # it keeps its last rate",
                "    scheduler.step()",
            ]
        return ["scheduler.step()"]

    # An epoch's end, and the run's

    def _measure(self, part: str) -> str:
        std = ", std" if self._recipe.data.standardize_target else ""
        return f'evaluate(model, criterion, parts["{part}"], device{std})'

    def _epoch_end(self) -> list[str]:
        said = 'f"epoch {epoch + 1}/{epochs}  train loss {total.item() / count:.4g}"'
        if "val" not in self._data.parts:
            return [f"print({said}, flush=True)", *self._schedule("epoch"), "torch.save(model.state_dict(), WEIGHTS)"]
        score = "accuracy" if self._classes else "r2"
        return [
            f"measured = {self._measure('val')}",
            f'print({said}, "· val", told(measured), flush=True)',
            *self._schedule("epoch"),
            f'rank = measured["{score}"], -measured["loss"]',
            "if rank > best or epoch == 0:",
            "    best = max(best, rank)",
            "    torch.save(model.state_dict(), WEIGHTS)",
        ]

    def _end(self) -> list[str]:
        lines = [""]
        if "test" in self._data.parts:
            lines += [
                "model.load_state_dict(torch.load(WEIGHTS, map_location=device, weights_only=True))",
                f'print("test", told({self._measure("test")}))',
            ]
        which = "best" if "val" in self._data.parts else "last"
        return [*lines, f'print(f"The {which} weights are in {{WEIGHTS}}.")']


def _layout(recipe: Recipe, facts: Facts, model: nn.Module) -> str:
    """How images and weights lie in memory, as an expression; empty where that is torch's own way."""
    training, own = recipe.training, bool(recipe.model.python)
    # Module.to(memory_format=…) refuses weights of three dimensions.
    if len(facts.shape) != 3 or any(p.ndim == 5 for p in model.parameters()):
        return ""
    if training.channels_last != "auto":
        return "torch.channels_last" if training.channels_last else ""
    on = [kind for kind in ("cpu", "cuda") if lays_channels_last(training, model, torch.device(kind), own=own)]
    such = f'== "{on[0]}"' if len(on) == 1 else f"in {literal(on)}"
    return f"torch.channels_last if device.type {such} else torch.contiguous_format" if on else ""
