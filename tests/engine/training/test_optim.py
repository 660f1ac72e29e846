from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import line, rows, train
from torch import Tensor, nn

from engine import catalog
from engine.errors import RecipeError
from engine.recipe import Recipe
from engine.training.optim import Optim, make_optimizer, make_scheduler
from engine.training.precision import Precision

EPOCHS, STEPS = 3, 5
# What a scheduler can't do without; the run's length and the highest rate are inferred.
NEEDED: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [2, 4]},
    "ExponentialLR": {"gamma": 0.5},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.001, "step_size_up": 2},
    "ReduceLROnPlateau": {"patience": 0},
}


def make(recipe: Recipe, model: nn.Module) -> Optim:
    return Optim(recipe, model, STEPS, Precision("fp32", torch.device("cpu")))


def gradients_of(model: nn.Module, optim: Optim, scale: float = 1.0) -> Callable[[], Tensor]:
    def gradients() -> Tensor:
        optim.zero_grad()
        loss = (model(torch.ones(4, 1)) - 1).square().mean() * scale
        loss.backward()
        return loss.detach()

    return gradients


class TestClipping:
    def step_length(self, clip: float) -> float:
        torch.manual_seed(0)
        model = nn.Linear(1, 3)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        optim = make(line({"training.clip_grad_norm": clip, "optimizer.lr": 1.0}), model)
        optim.step(gradients_of(model, optim, scale=1000.0))
        return float((torch.cat([p.detach().flatten() for p in model.parameters()]) - before).norm())

    def test_the_norm_of_all_gradients_together_is_bounded(self) -> None:
        assert self.step_length(0.25) == pytest.approx(0.25, rel=1e-4)

    def test_zero_leaves_the_gradients_alone(self) -> None:
        assert self.step_length(0.0) > 100


class TestOptimizers:
    @pytest.mark.parametrize("name", sorted(catalog.optimizers()))
    def test_every_one_of_torch_trains_or_says_in_one_line_why_not(self, name: str, root: Path) -> None:
        job = train(line({"optimizer": {"name": name, "lr": 0.02}, "training.epochs": 4}), root)

        if job.history.error is None:
            losses = list(rows(job.directory)["epoch/loss"].values())
            assert losses[-1] < losses[0]
        else:
            assert name in {"Muon", "SparseAdam"}
            assert name in str(job.history.error)
            assert "\n" not in str(job.history.error)

    def test_lbfgs_fits_the_line_with_its_closure(self, root: Path) -> None:
        job = train(
            line({"optimizer": {"name": "LBFGS", "lr": 0.5}, "data.batch_size": 200, "training.epochs": 10}), root
        )

        assert job.history.summary is not None
        assert job.history.summary.test["r2"] > 0.97
        assert list(rows(job.directory)["train/loss"]) == list(range(1, 11))  # one value a step, not one an evaluation

    def test_lbfgs_clips_the_gradients_of_each_evaluation(self) -> None:
        model = nn.Linear(1, 3)
        recipe = line({"optimizer": {"name": "LBFGS", "lr": 0.001}, "training.clip_grad_norm": 0.001})
        optim = make(recipe, model)

        optim.step(gradients_of(model, optim, scale=1000.0))

        norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        assert float(norm) == pytest.approx(0.001, rel=1e-2)

    def test_frozen_parameters_are_left_out(self) -> None:
        model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
        model[0].requires_grad_(False)

        optimizer = make_optimizer(line(), model.parameters())

        assert [p.shape for p in optimizer.param_groups[0]["params"]] == [p.shape for p in model[1].parameters()]

    def test_a_model_without_a_trained_parameter_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="has no parameter to train"):
            make_optimizer(line(), nn.ReLU().parameters())

    def test_an_unknown_name_or_parameter_names_the_nearest(self) -> None:
        with pytest.raises(RecipeError, match=r"optimizer\.name: .*'AdamX'.*Did you mean 'Adam"):
            make_optimizer(line({"optimizer.name": "AdamX"}), nn.Linear(1, 1).parameters())
        with pytest.raises(RecipeError, match=r"optimizer\.momentun: .*Did you mean 'momentum'"):
            make_optimizer(line({"optimizer.momentun": 0.9}), nn.Linear(1, 1).parameters())


class TestSchedulers:
    def recipe(self, name: str, every: str, **more: Any) -> Recipe:
        return line(
            {
                "optimizer.lr": 0.1,
                "optimizer.momentum": 0.9,
                "scheduler": {"name": name, "every": every, **NEEDED.get(name, {}), **more},
                "training.epochs": EPOCHS,
            }
        )

    def rates(self, recipe: Recipe) -> list[float]:
        """The learning rate of each step of a whole run whose loss never falls."""
        model = nn.Linear(1, 1)
        optim = make(recipe, model)
        rates = []
        for _ in range(EPOCHS):
            for _ in range(STEPS):
                rates.append(optim.learning_rate)
                optim.step(gradients_of(model, optim))
            optim.end_epoch(1.0)
        return rates

    def torchs_own(self, name: str, every: str, inferred: dict[str, Any]) -> list[float]:
        """What torch's scheduler does when it is driven by hand."""
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
        scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **NEEDED.get(name, {}), **inferred)
        rates = []
        for _ in range(EPOCHS):
            for _ in range(STEPS):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if every == "step":
                    scheduler.step()
            if every == "epoch":
                scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
        return rates

    @pytest.mark.parametrize("every", ["step", "epoch"])
    @pytest.mark.parametrize("name", sorted(set(catalog.schedulers()) - {"ReduceLROnPlateau"}))
    def test_every_one_of_torch_gives_torchs_own_rates(self, name: str, every: str) -> None:
        length = EPOCHS * STEPS if every == "step" else EPOCHS
        inferred = {
            "CosineAnnealingLR": {"T_max": length},
            "OneCycleLR": {"max_lr": 0.1, "total_steps": length},
            "CyclicLR": {"max_lr": 0.1},
        }.get(name, {})

        assert self.rates(self.recipe(name, every)) == self.torchs_own(name, every, inferred)

    def test_a_plateau_lowers_the_rate_as_torch_does(self) -> None:
        ours = self.rates(self.recipe("ReduceLROnPlateau", "epoch"))

        assert ours == self.torchs_own("ReduceLROnPlateau", "epoch", {})
        assert ours[-1] == pytest.approx(0.01)

    def test_a_falling_loss_leaves_the_rate_alone(self) -> None:
        optim = make(self.recipe("ReduceLROnPlateau", "epoch"), nn.Linear(1, 1))

        for loss in (3.0, 2.0, 1.0):
            optim.end_epoch(loss)

        assert optim.learning_rate == 0.1

    def test_a_plateau_by_step_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r'scheduler\.every: .*Write every = "epoch"'):
            self.rates(self.recipe("ReduceLROnPlateau", "step"))

    def test_what_the_recipe_says_goes_before_what_is_inferred(self) -> None:
        assert self.rates(self.recipe("CosineAnnealingLR", "step", T_max=100))[-1] > 0.09
        assert self.rates(self.recipe("CosineAnnealingLR", "step"))[-1] < 0.01

    def test_one_cycle_may_be_told_epochs_and_steps_instead_of_total_steps(self) -> None:
        told = self.rates(self.recipe("OneCycleLR", "step", epochs=EPOCHS, steps_per_epoch=STEPS))

        assert told == self.rates(self.recipe("OneCycleLR", "step"))

    def test_a_cycle_of_momentum_needs_an_optimizer_with_momentum(self) -> None:
        recipe = self.recipe("CyclicLR", "step").override({"optimizer": {"name": "Adagrad", "lr": 0.1}})

        with pytest.raises(RecipeError, match=r"scheduler: CyclicLR refuses its parameters: .*momentum"):
            make_scheduler(recipe, make_optimizer(recipe, nn.Linear(1, 1).parameters()), STEPS)

    @pytest.mark.parametrize("every", ["step", "epoch"])
    @pytest.mark.parametrize("name", sorted(catalog.schedulers()))
    def test_every_state_survives_a_file_and_goes_on_alike(self, name: str, every: str, tmp_path: Path) -> None:
        if (name, every) == ("ReduceLROnPlateau", "step"):
            every = "epoch"
        recipe = self.recipe(name, every)
        whole, cut = make(recipe, nn.Linear(1, 1)), make(recipe, nn.Linear(1, 1))
        fresh_model = nn.Linear(1, 1)

        def advance(optim: Optim) -> float:
            optim.step(lambda: torch.zeros(()))
            optim.end_epoch(1.0)
            return optim.learning_rate

        expected = [advance(whole) for _ in range(EPOCHS)]
        seen = [advance(cut)]
        torch.save(cut.state(), tmp_path / "state.pt")
        resumed = make(recipe, fresh_model)
        resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        seen += [advance(resumed) for _ in range(EPOCHS - 1)]

        assert seen == expected


class TestLearningRate:
    def test_a_new_rate_is_the_next_steps(self) -> None:
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
        optim = make(line(), model)
        optim.set_learning_rate(0.5)
        before = model.weight.item()

        optim.step(gradients_of(model, optim))

        assert model.weight.grad is not None
        assert model.weight.item() == pytest.approx(before - 0.5 * model.weight.grad.item())

    @pytest.mark.parametrize("name", sorted(set(catalog.schedulers()) - {"ReduceLROnPlateau"}))
    def test_a_schedule_goes_on_scaled_by_the_same_factor(self, name: str) -> None:
        recipe = TestSchedulers().recipe(name, "step")
        model, free_model = nn.Linear(1, 1), nn.Linear(1, 1)
        optim, free = make(recipe, model), make(recipe, free_model)
        for each, its in ((optim, model), (free, free_model)):
            each.step(gradients_of(its, each))
        optim.set_learning_rate(optim.learning_rate * 0.5)

        for _ in range(6):
            assert optim.learning_rate == pytest.approx(free.learning_rate * 0.5, rel=1e-6)
            optim.step(gradients_of(model, optim))
            free.step(gradients_of(free_model, free))
