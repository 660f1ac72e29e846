"""The step: clipping, warm-up, live changes, failures inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from optim_runs import gradients_of, make, network, run_epochs, scheduled
from small_runs import line
from torch import Tensor, nn

from engine.errors import RecipeError, TrainingError
from engine.optim.optim import Optim
from engine.policies.precision import Precision


class TestClipping:
    def stepped(self, **training: float) -> tuple[Any, Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(1, 3)
        changes = {f"training.{key}": value for key, value in training.items()}
        optim = make(line({**changes, "optimizer.lr": 1.0}), model)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        optim.step(gradients_of(model, optim, scale=1000.0))
        return optim, torch.cat([p.detach().flatten() for p in model.parameters()]) - before

    def test_the_norm_of_all_gradients_together_is_bounded_and_known(self) -> None:
        optim, moved = self.stepped(clip_grad_norm=0.25)
        assert float(moved.norm()) == pytest.approx(0.25, rel=1e-4)
        assert float(optim.norm) > 100

    def test_each_gradient_is_bounded_by_value(self) -> None:
        optim, moved = self.stepped(clip_grad_value=0.25)
        assert float(moved.abs().max()) == pytest.approx(0.25)
        assert float(moved.norm()) > 0.26
        assert optim.norm is None

    def test_both_bounds_hold_together(self) -> None:
        _, moved = self.stepped(clip_grad_norm=0.25, clip_grad_value=0.1)
        assert float(moved.norm()) <= 0.2500001
        assert float(moved.abs().max()) == pytest.approx(0.1)

    def test_zero_leaves_the_gradients_alone(self) -> None:
        assert float(self.stepped()[1].norm()) > 100

    def test_lbfgs_clips_the_gradients_of_each_evaluation(self) -> None:
        model = nn.Linear(1, 3)
        optim = make(line({"optimizer": {"name": "LBFGS", "lr": 0.001}, "training.clip_grad_norm": 0.001}), model)
        optim.step(gradients_of(model, optim, scale=1000.0))
        norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        assert float(norm) == pytest.approx(0.001, rel=1e-2)


class TestScaledGradients:
    """What fp16 does on a GPU, with torch's own scaler on the CPU."""

    @pytest.mark.parametrize("name", ["SGD", "Muon"])
    def test_are_unscaled_before_they_are_clipped_and_used(self, name: str) -> None:
        recipe = line({"optimizer": {"name": name, "warmup": "3 steps"}, "training.clip_grad_norm": 0.1})
        model, plain_model = network(), network()
        precision = Precision("fp32", torch.device("cpu"))
        precision.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=1024.0)
        optim, plain = Optim(recipe, model, 5, precision), make(recipe, plain_model)

        def scaled() -> Tensor:
            optim.zero_grad()
            loss = (model(torch.ones(4, 1)) - 1).square().mean()
            precision.backward(loss)
            return loss.detach()

        for _ in range(4):
            optim.step(scaled)
            plain.step(gradients_of(plain_model, plain))

        assert optim.norm is not None
        assert plain.norm is not None
        assert float(optim.norm) == pytest.approx(float(plain.norm), rel=1e-4)
        for ours, theirs in zip(model.parameters(), plain_model.parameters(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)

    def test_lbfgs_refuses_them(self) -> None:
        precision = Precision("fp32", torch.device("cpu"))
        precision.scaler = torch.amp.GradScaler("cpu", enabled=True)
        with pytest.raises(RecipeError, match=r"training\.precision: LBFGS can't scale its gradients"):
            Optim(line({"optimizer": {"name": "LBFGS"}}), network(), 5, precision)


class TestWarmup:
    @pytest.mark.parametrize(("text", "steps"), [("4 steps", 4), ("1 epoch", 5), ("2 epochs", 10)])
    def test_the_rate_rises_by_equal_parts_to_the_full_one(self, text: str, steps: int) -> None:
        model = network()
        rates = run_epochs(make(line({"optimizer.lr": 0.1, "optimizer.warmup": text}), model), model)

        assert rates[:steps] == pytest.approx([0.1 * (step + 1) / steps for step in range(steps)])
        assert set(rates[steps - 1 :]) == {0.1}

    @pytest.mark.parametrize(
        "name", ["ExponentialLR", "CosineAnnealingLR", "OneCycleLR", "LinearLR", "ChainedScheduler"]
    )
    def test_it_is_multiplied_onto_a_schedule_that_is_not_disturbed(self, name: str, tmp_path: Path) -> None:
        recipe, model = scheduled(tmp_path, name, "step"), nn.Linear(1, 1)
        plain = run_epochs(make(recipe, model), model)
        warmed = run_epochs(make(recipe.override({"optimizer.warmup": "4 steps"}), model), model)

        assert warmed[:4] == pytest.approx([rate * part / 4 for rate, part in zip(plain, range(1, 5), strict=False)])
        assert warmed[4:] == plain[4:]  # to the bit

    def test_the_rate_that_is_told_is_the_one_that_moves_the_weights(self) -> None:
        model = nn.Linear(1, 1)
        optim = make(line({"optimizer.lr": 0.1, "optimizer.warmup": "4 steps"}), model)
        for expected in (0.025, 0.05, 0.075, 0.1, 0.1):
            before = model.bias.item()
            optim.step(gradients_of(model, optim))
            assert model.bias.grad is not None
            assert before - model.bias.item() == pytest.approx(expected * model.bias.grad.item(), rel=1e-3)

    def test_a_resumed_one_goes_on_at_its_step(self) -> None:
        recipe, model = line({"optimizer.lr": 0.1, "optimizer.warmup": "8 steps"}), network()
        optim, resumed = make(recipe, model), make(recipe, model)
        run_epochs(optim, model, 1)
        resumed.load_state(optim.state())
        assert resumed.learning_rate == optim.learning_rate == pytest.approx(0.1 * 6 / 8)

    def test_a_new_rate_ends_it_and_says_so(self) -> None:
        model = network()
        optim = make(line({"optimizer.warmup": "8 steps"}), model)
        assert "warm-up ends" in optim.set_learning_rate(0.2)
        assert set(run_epochs(optim, model, 1)) == {0.2}

    def test_a_time_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"optimizer\.warmup: '30 s' is a time.*epochs"):
            make(line({"optimizer.warmup": "30 s"}), network())


class TestLiveChanges:
    def test_a_new_rate_is_the_next_steps(self) -> None:
        model = nn.Linear(1, 1)
        optim = make(line(), model)
        optim.set_learning_rate(0.5)
        before = model.weight.item()
        optim.step(gradients_of(model, optim))
        assert model.weight.grad is not None
        assert model.weight.item() == pytest.approx(before - 0.5 * model.weight.grad.item())

    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
    def test_what_is_no_rate_is_refused_and_changes_nothing(self, value: float) -> None:
        optim = make(line(), network())
        with pytest.raises(TrainingError, match=r"optimizer\.lr: .* is not a learning rate"):
            optim.set_learning_rate(value)
        assert optim.learning_rate == 0.05

    def test_a_new_decay_reaches_what_is_decayed_and_nothing_else(self) -> None:
        optim = make(line({"optimizer": {"name": "AdamW"}}), network())
        for value in (0.0, 0.3):  # from 0, where all groups look alike, too
            optim.set_weight_decay(value)
            assert optim.weight_decay == value
            assert [group["weight_decay"] for group in optim.optimizer.param_groups] == [value, 0.0]

    def test_what_is_no_decay_is_refused(self) -> None:
        optim = make(line({"optimizer": {"name": "AdamW"}}), network())
        for value in (-0.1, float("nan"), float("inf")):
            with pytest.raises(TrainingError, match="is not a weight decay"):
                optim.set_weight_decay(value)
        with pytest.raises(TrainingError, match="Rprop decays no weights"):
            make(line({"optimizer": {"name": "Rprop"}}), network()).set_weight_decay(0.1)

    def test_it_survives_a_longer_run(self, tmp_path: Path) -> None:
        optim = make(scheduled(tmp_path, "CosineAnnealingLR", "step"), network())
        optim.set_weight_decay(0.3)
        optim.extend(9)
        assert optim.weight_decay == 0.3


class TestFailingGradients:
    @pytest.mark.parametrize("name", ["SGD", "AdamW", "LBFGS", "Muon"])
    @pytest.mark.parametrize("at", [1, 3])
    def test_leave_everything_as_it_was(self, name: str, at: int) -> None:
        recipe = line(
            {"optimizer": {"name": name, "lr": 0.1, "warmup": "9 steps"},
             "scheduler": {"name": "StepLR", "step_size": 1, "every": "step"}}
        )  # fmt: skip
        model, untouched = network(), network()
        optim, smooth = make(recipe, model), make(recipe, untouched)
        for each, its in ((optim, model), (smooth, untouched)):
            each.step(gradients_of(its, each))
        calls = 0

        def failing() -> Tensor:
            nonlocal calls
            calls += 1
            if calls == at or name != "LBFGS":
                raise MemoryError
            return gradients_of(model, optim)()

        with pytest.raises(MemoryError):
            optim.step(failing)
        assert optim.learning_rate == smooth.learning_rate
        for _ in range(2):
            for each, its in ((optim, model), (smooth, untouched)):
                each.step(gradients_of(its, each))

        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), untouched.parameters(), strict=True))
