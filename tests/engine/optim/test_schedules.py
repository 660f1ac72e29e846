"""Every scheduler of torch: torch's own rates, state in a file, nesting, functions, another length."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from optim_runs import EPOCHS, NEEDED, STEPS, gradients_of, make, run_epochs, scheduled
from small_runs import line, python_file
from torch import nn
from torch.optim import lr_scheduler as torchs

from engine import catalog
from engine.errors import RecipeError, TrainingError
from engine.optim.optimizers import make_optimizer
from engine.optim.schedules import make_scheduler
from engine.recipe import Recipe

NAMES = sorted(catalog.schedulers())
BY_STEP = sorted(set(NAMES) - {"ReduceLROnPlateau"})
EVERY = [(name, every) for name in NAMES for every in ("step", "epoch") if name in BY_STEP or every == "epoch"]


def by_hand(name: str, optimizer: torch.optim.Optimizer, length: int) -> Any:
    """torch's scheduler as one writes it in Python."""
    if name == "SequentialLR":
        parts = [
            torchs.LinearLR(optimizer, start_factor=0.1, total_iters=1),
            torchs.MultiStepLR(optimizer, [1]),
            torchs.CosineAnnealingLR(optimizer, T_max=length - 2),
        ]
        return torchs.SequentialLR(optimizer, parts, [1, 2])
    if name == "ChainedScheduler":
        return torchs.ChainedScheduler(
            [torchs.LinearLR(optimizer, total_iters=2), torchs.ExponentialLR(optimizer, 0.9)]
        )
    inferred: dict[str, Any] = {
        "CosineAnnealingLR": {"T_max": length},
        "OneCycleLR": {"max_lr": 0.1, "total_steps": length},
        "CyclicLR": {"max_lr": 0.1},
        "LambdaLR": {"lr_lambda": lambda step: 1 / (1 + step)},
        "MultiplicativeLR": {"lr_lambda": lambda step: 0.9},
    }.get(name, {})
    return getattr(torchs, name)(optimizer, **NEEDED.get(name, {}), **inferred)


def torchs_rates(name: str, every: str) -> list[float]:
    """What torch's scheduler does when it is driven by hand."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)
    scheduler = by_hand(name, optimizer, EPOCHS * STEPS if every == "step" else EPOCHS)
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


def refusal(recipe: Recipe) -> str:
    with pytest.raises(RecipeError) as caught:
        make_scheduler(recipe, make_optimizer(recipe, nn.Linear(1, 1)), STEPS)
    return str(caught.value)


class TestEveryScheduler:
    @pytest.mark.parametrize(("name", "every"), EVERY)
    def test_gives_torchs_own_rates(self, name: str, every: str, tmp_path: Path) -> None:
        model = nn.Linear(1, 1)
        rates = run_epochs(make(scheduled(tmp_path, name, every), model), model)

        assert rates == torchs_rates(name, every)
        assert len(set(rates)) > 1

    @pytest.mark.parametrize("cut", [1, 2, 4])
    @pytest.mark.parametrize(("name", "every"), EVERY)
    def test_goes_on_alike_from_a_state_in_a_file(self, name: str, every: str, cut: int, tmp_path: Path) -> None:
        recipe = scheduled(tmp_path, name, every, **({"patience": 3} if name == "ReduceLROnPlateau" else {}))
        whole, broken, resumed = (make(recipe, nn.Linear(1, 1)) for _ in range(3))

        def advance(optim: Any) -> tuple[float, float]:
            optim.step(lambda: torch.zeros(()))
            optim.end_epoch(1.0)
            return optim.learning_rate, optim.optimizer.param_groups[0]["momentum"]

        expected = [advance(whole) for _ in range(7)]
        seen = [advance(broken) for _ in range(cut)]
        torch.save(broken.state(), tmp_path / "state.pt")
        resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        seen += [advance(resumed) for _ in range(7 - cut)]

        assert seen == expected

    @pytest.mark.parametrize("name", BY_STEP)
    def test_goes_on_scaled_by_the_same_factor_from_a_new_rate(self, name: str, tmp_path: Path) -> None:
        recipe = scheduled(tmp_path, name, "step", **({"eta_min": 0.01} if name.startswith("Cosine") else {}))
        model, free_model = nn.Linear(1, 1), nn.Linear(1, 1)
        optim, free = make(recipe, model), make(recipe, free_model)
        for each, its in ((optim, model), (free, free_model)):
            each.step(gradients_of(its, each))
        assert optim.set_learning_rate(optim.learning_rate * 0.5) == ""

        for _ in range(6):
            assert optim.learning_rate == pytest.approx(free.learning_rate * 0.5, rel=1e-6)
            optim.step(gradients_of(model, optim))
            free.step(gradients_of(free_model, free))


class TestPlateau:
    def test_a_falling_loss_leaves_the_rate_alone(self, tmp_path: Path) -> None:
        optim = make(scheduled(tmp_path, "ReduceLROnPlateau", "epoch"), nn.Linear(1, 1))
        for loss in (3.0, 2.0, 1.0):
            optim.end_epoch(loss)
        assert optim.learning_rate == 0.1

    def test_the_patience_that_is_used_up_survives_a_state(self, tmp_path: Path) -> None:
        recipe = scheduled(tmp_path, "ReduceLROnPlateau", "epoch", patience=2)
        before, after, fresh = (make(recipe, nn.Linear(1, 1)) for _ in range(3))
        for _ in range(3):
            before.end_epoch(1.0)
        after.load_state(before.state())
        for each in (after, fresh):
            each.end_epoch(1.0)

        assert after.learning_rate == pytest.approx(0.05)
        assert fresh.learning_rate == 0.1

    def test_by_step_or_for_a_maximum_it_is_refused(self, tmp_path: Path) -> None:
        assert 'Write every = "epoch"' in refusal(scheduled(tmp_path, "ReduceLROnPlateau", "step"))
        assert "scheduler.mode: 'max'" in refusal(scheduled(tmp_path, "ReduceLROnPlateau", "epoch", mode="max"))


class TestLength:
    def test_what_the_recipe_says_goes_before_what_is_inferred(self, tmp_path: Path) -> None:
        def last(**more: Any) -> float:
            model = nn.Linear(1, 1)
            return run_epochs(make(scheduled(tmp_path, "CosineAnnealingLR", "step", **more), model), model)[-1]

        assert last(T_max=100) > 0.09
        assert last() < 0.01

    def test_one_cycle_may_be_told_epochs_instead_of_total_steps(self, tmp_path: Path) -> None:
        model = nn.Linear(1, 1)
        plain = run_epochs(make(scheduled(tmp_path, "OneCycleLR", "step"), model), model)
        for told in ({"epochs": EPOCHS, "steps_per_epoch": STEPS}, {"epochs": EPOCHS}):
            assert run_epochs(make(scheduled(tmp_path, "OneCycleLR", "step", **told), model), model) == plain

    @pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR", "SequentialLR"])
    def test_a_longer_run_stretches_the_schedule_as_if_it_had_always_been_so(self, name: str, tmp_path: Path) -> None:
        recipe = scheduled(tmp_path, name, "step")
        model, other = nn.Linear(1, 1), nn.Linear(1, 1)
        optim = make(recipe, model)
        always = run_epochs(make(recipe.override({"training.epochs": 5}), other), other, 5)
        run_epochs(optim, model, 2)
        optim.scale_learning_rate(0.5)

        optim.extend(5)
        resumed = make(recipe, model)
        resumed.load_state(optim.state())

        assert run_epochs(optim, model, 3) == pytest.approx([rate * 0.5 for rate in always[10:]])
        assert run_epochs(resumed, model, 3) == pytest.approx([rate * 0.5 for rate in always[10:]])

    def test_a_schedule_of_the_persons_length_stays_and_holds_its_last_rate(self, tmp_path: Path) -> None:
        model = nn.Linear(1, 1)
        optim = make(scheduled(tmp_path, "OneCycleLR", "step", total_steps=10), model)
        first = run_epochs(optim, model, 1)

        optim.extend(8)
        rest = run_epochs(optim, model, 3)

        assert first + rest[:5] == run_epochs(make(scheduled(tmp_path, "OneCycleLR", "step", total_steps=10), model),
                                              model, 2)  # fmt: skip
        assert set(rest[5:]) == {rest[4]}

    def test_at_the_end_of_a_cosine_a_new_rate_is_used_and_the_person_is_told(self, tmp_path: Path) -> None:
        model = nn.Linear(1, 1)
        optim = make(scheduled(tmp_path, "CosineAnnealingLR", "epoch"), model)
        run_epochs(optim, model)
        assert optim.learning_rate == 0.0

        note = optim.set_learning_rate(0.2)

        assert optim.learning_rate == 0.2
        assert "can't be scaled" in note


class TestBelowZero:
    @pytest.mark.parametrize(("gamma", "shown"), [(-1.0, "-0.1"), (math.inf, "inf"), (0.0, "")])
    def test_a_rate_that_leads_uphill_is_refused_before_it_moves_anything(
        self, gamma: float, shown: str, tmp_path: Path
    ) -> None:
        model = nn.Linear(1, 1)
        optim = make(scheduled(tmp_path, "StepLR", "epoch", step_size=1, gamma=gamma), model)
        run_epochs(optim, model, 1)
        before = model.weight.detach().clone()
        if not shown:
            run_epochs(optim, model, 1)  # a rate of 0 is a schedule's end
        else:
            with pytest.raises(TrainingError, match=f"scheduler: gives a learning rate of {shown} at step {STEPS + 1}"):
                run_epochs(optim, model, 1)
        assert torch.equal(model.weight, before)


class TestNesting:
    def recipe(self, name: str = "SequentialLR", **more: Any) -> Recipe:
        return line({"scheduler": {"name": name, **more}})

    def test_an_error_inside_is_named_by_its_place(self) -> None:
        inner = [{"name": "LinearLR"}, {"name": "ExponentialLR", "gamma": "x"}]
        assert refusal(self.recipe(schedulers=inner, milestones=[1])).startswith(
            "scheduler.schedulers.1.gamma: 'x' is not float"
        )
        inner[1] = {"name": "Exponential"}
        assert refusal(self.recipe(schedulers=inner, milestones=[1])).startswith("scheduler.schedulers.1.name: ")
        deep = [{"name": "ChainedScheduler", "schedulers": [{"name": "StepLR"}]}]
        assert refusal(self.recipe("ChainedScheduler", schedulers=deep)).startswith(
            "scheduler.schedulers.0.schedulers.0.step_size: StepLR needs it"
        )

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"schedulers": [{"name": "LinearLR"}] * 2}, "scheduler.milestones: SequentialLR needs it"),
            ({"schedulers": [{"name": "LinearLR"}] * 2, "milestones": [1, 2]}, "scheduler.milestones: 2 of them"),
            ({"schedulers": [{"name": "LinearLR"}] * 3, "milestones": [2, 1]}, "scheduler.milestones: [2, 1] don't"),
            ({"milestones": []}, "scheduler.schedulers: SequentialLR needs schedulers"),
            ({"name": "StepLR", "step_size": 1, "schedulers": [{"name": "LinearLR"}]}, "StepLR takes no schedulers"),
            (
                {"schedulers": [{"name": "LinearLR"}, {"name": "ReduceLROnPlateau"}], "milestones": [1]},
                "scheduler.schedulers.1: ReduceLROnPlateau needs the loss",
            ),
            (
                {"schedulers": [{"name": "LinearLR"}, {"name": "ChainedScheduler", "schedulers": []}],
                 "milestones": [1]},
                "scheduler.schedulers.1: SequentialLR can't begin a ChainedScheduler",
            ),
        ],
    )  # fmt: skip
    def test_what_torch_cannot_drive_is_refused(self, changes: dict[str, Any], said: str) -> None:
        assert said in refusal(self.recipe(**changes))

    def test_a_sequence_inside_a_chain_goes_on_from_a_state(self, tmp_path: Path) -> None:
        sequence = {"name": "SequentialLR", **NEEDED["SequentialLR"]}
        chain = {"schedulers": [sequence, {"name": "ExponentialLR", "gamma": 0.9}]}
        recipe = scheduled(tmp_path, "ChainedScheduler", "step", **chain)
        model = nn.Linear(1, 1)
        whole = run_epochs(make(recipe, model), model)
        optim, resumed = make(recipe, model), make(recipe, model)
        seen = run_epochs(optim, model, 1)
        torch.save(optim.state(), tmp_path / "state.pt")
        resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))

        assert seen + run_epochs(resumed, model, 2) == whole
        assert len(set(whole)) > 10


class TestFunctions:
    def test_a_file_lies_beside_the_recipe(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        python_file(tmp_path / "sub", "def half(epoch): return 0.5**epoch\n", "rates.py")
        text = """
[data]
name = "line"
[scheduler]
name = "SequentialLR"
milestones = [1]
schedulers = [{ name = "LambdaLR", lr_lambda = "sub/rates.py:half" }, { name = "ConstantLR" }]
"""
        recipe = Recipe.from_toml(text, folder=tmp_path)
        written = recipe.values()["scheduler"]["schedulers"][0]["lr_lambda"]

        assert written == f"{tmp_path}/sub/rates.py:half"
        scheduler = make_scheduler(recipe, make_optimizer(recipe, nn.Linear(1, 1)), STEPS)
        assert isinstance(scheduler, torchs.SequentialLR)

    def test_a_cycle_may_be_scaled_by_a_function_and_its_state_is_plain(self, tmp_path: Path) -> None:
        file = python_file(tmp_path, "def scale(x): return 0.5**x\n", "scale.py")
        recipe = scheduled(tmp_path, "CyclicLR", "step", scale_fn=f"{file}:scale")
        model = nn.Linear(1, 1)
        optim = make(recipe, model)
        rates = run_epochs(optim, model)
        torch.save(optim.state(), tmp_path / "state.pt")

        assert torch.load(tmp_path / "state.pt", weights_only=True)["schedule"]["count"] == EPOCHS * STEPS
        assert max(rates[4:8]) < max(rates[:4])

    def test_an_error_in_it_names_the_parameter_or_the_scheduler(self, tmp_path: Path) -> None:
        recipe = line({"scheduler": {"name": "LambdaLR", "lr_lambda": f"{tmp_path}/none.py:f"}})
        assert refusal(recipe).startswith("scheduler.lr_lambda: there is no file")
        file = python_file(tmp_path, "def f(step): return 'fast'\n")
        recipe = line({"scheduler": {"name": "LambdaLR", "lr_lambda": f"{file}:f"}})
        assert "LambdaLR refuses its parameters: could not convert string to float" in refusal(recipe)

    def test_a_cycle_of_momentum_needs_an_optimizer_with_momentum(self, tmp_path: Path) -> None:
        recipe = scheduled(tmp_path, "CyclicLR", "step").override({"optimizer": {"name": "Adagrad", "lr": 0.1}})
        assert "CyclicLR refuses its parameters: " in refusal(recipe)
