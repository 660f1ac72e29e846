"""Every loss of torch either trains its task or is refused by name, and weighed losses are those of the whole set."""

# B batch · K classes

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine import catalog
from engine.data.prepare import Facts, Prepared, prepare
from engine.data.serving.batches import Batch
from engine.errors import RecipeError
from engine.models.build import build_model
from engine.recipe import Recipe
from engine.tasks.base import Task
from engine.tasks.classification import Form, class_numbers, one_hot, signs
from engine.tasks.losses import _try_on_classes, balanced, fit_loss, make_loss, make_task
from presets import load as preset

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*NLLLoss2d:FutureWarning"),
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning"),
]
LOSSES = sorted(catalog.losses())
FITS_SCORES: dict[str, Form] = {
    "CrossEntropyLoss": class_numbers,
    "MultiMarginLoss": class_numbers,
    "BCEWithLogitsLoss": one_hot,
    "HuberLoss": one_hot,
    "L1Loss": one_hot,
    "MSELoss": one_hot,
    "MultiLabelSoftMarginLoss": one_hot,
    "SmoothL1Loss": one_hot,
    "SoftMarginLoss": signs,
}
FITS_LOG_SOFTMAX = {"NLLLoss": class_numbers, "NLLLoss2d": class_numbers, "KLDivLoss": one_hot}
FITS_NUMBERS = ("HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss")


def ending(name: str) -> dict[str, Any]:
    return {"name": name, "dim": 1} if name.endswith("Softmax") else {"name": name}


def classifier(loss: dict[str, Any], *endings: str) -> Recipe:
    """A perceptron on 500 digits, ended by `endings`."""
    layers = [{"name": "Flatten"}, {"name": "Linear", "out_features": 32}, {"name": "BatchNorm1d"}, {"name": "ReLU"}]
    layers += [{"name": "Linear", "out_features": "classes"}, *map(ending, endings)]
    data = {"name": "mnist5k", "batch_size": 100, "split": {"train": 0.1, "val": 0.0, "test": 0.0}}
    return Recipe.from_values({"data": data, "model": {"layers": layers}, "loss": loss})


def regressor(loss: dict[str, Any], *endings: str) -> Recipe:
    """A straight line for a straight line, ended by `endings`."""
    layers = [{"name": "Linear", "out_features": "targets"}, *map(ending, endings)]
    data = {"name": "line", "batch_size": 100}
    return Recipe.from_values({"task": "regression", "data": data, "model": {"layers": layers}, "loss": loss})


def ready(recipe: Recipe) -> Prepared:
    return prepare(recipe, CPU, lambda what, done, total: None)


def trained(recipe: Recipe, steps: int, optimizer: Any) -> tuple[list[float], float]:
    """The loss of each step, and of the metric that stands first its value on a last batch of 100 samples."""
    data = ready(recipe)
    torch.manual_seed(0)
    task, model = make_task(recipe, data.facts, CPU), build_model(recipe, data.facts)
    optimizer = optimizer(model.parameters())
    losses: list[float] = []
    while len(losses) < steps:
        for batch in data.train.epoch(len(losses)):
            outcome = task.step(model, batch)
            optimizer.zero_grad()
            outcome.loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(outcome.loss.detach()))
    sums = task.contributions(outcome.outputs.detach(), outcome.targets).sum(0).tolist()
    return losses, task.summarize(sums, len(outcome.outputs))[task.metrics[0].name]


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


def refused(recipe: Recipe, outputs: int) -> str:
    with pytest.raises(RecipeError) as error:
        fit_loss(recipe, outputs)
    return str(error.value)


def weighed(targets: Tensor, task: Task, layer: nn.Module, inputs: Tensor, parts: int) -> list[Tensor]:
    """The gradients of one step in `parts` micro-batches, each counting by its share of the batch's weight."""
    layer.zero_grad()
    batch = Batch(inputs, targets)
    for part in batch.split(parts):
        outcome = task.step(layer, part)
        (outcome.loss * (task.weight(part.targets) / task.weight(targets))).backward()
    return [parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None]


class TestClassification:
    @pytest.mark.parametrize("name", LOSSES)
    def test_a_loss_that_fits_scores_learns_digits_and_any_other_is_refused_by_name(self, name: str) -> None:
        recipe = classifier({"name": name})
        if name not in FITS_SCORES:
            assert refused(recipe, 10).startswith(f"loss.name: {name} ")
            return
        assert fit_loss(recipe, 10)[1] is FITS_SCORES[name]
        losses, accuracy = trained(recipe, 60, adam)
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2])
        assert accuracy > 0.8

    @pytest.mark.parametrize("name", FITS_LOG_SOFTMAX)
    def test_a_loss_of_log_probabilities_learns_behind_a_log_softmax(self, name: str) -> None:
        recipe = classifier({"name": name}, "LogSoftmax")
        assert fit_loss(recipe, 10)[1] is FITS_LOG_SOFTMAX[name]
        assert trained(recipe, 60, adam)[1] > 0.8

    @pytest.mark.parametrize("last", ["Sigmoid", "Softmax"])
    def test_binary_cross_entropy_learns_from_probabilities(self, last: str) -> None:
        assert trained(classifier({"name": "BCELoss"}, last), 60, adam)[1] > 0.8

    @pytest.mark.parametrize(
        ("name", "endings", "said"),
        [
            ("NLLLoss", (), "needs log-probabilities. End the model with LogSoftmax, or use CrossEntropyLoss."),
            ("NLLLoss", ("Sigmoid",), "needs log-probabilities. End the model with LogSoftmax"),
            ("NLLLoss", ("LogSigmoid",), "needs log-probabilities. End the model with LogSoftmax"),
            ("BCELoss", (), "needs probabilities. End the model with Sigmoid, or use BCEWithLogitsLoss."),
            ("BCELoss", ("LogSoftmax",), "needs probabilities. End the model with Sigmoid"),
            ("HingeEmbeddingLoss", (), "does not fit classification: it does not fall as the right class's score"),
            ("LinearCrossEntropyLoss", (), "is a layer too: its weights would not be trained."),
            ("CTCLoss", (), ""),
        ],
    )
    def test_a_refusal_says_what_to_do(self, name: str, endings: tuple[str, ...], said: str) -> None:
        found = refused(classifier({"name": name}, *endings), 10)
        assert found.startswith(f"loss.name: {name} {said}" if said else f"loss.name: torch has no loss '{name}'")

    @pytest.mark.parametrize("classes", [2, 3, 49, 50, 65, 1000])
    def test_what_fits_does_not_depend_on_the_number_of_classes(self, classes: int) -> None:
        assert fit_loss(classifier({"name": "CrossEntropyLoss"}), classes)[1] is class_numbers
        assert fit_loss(classifier({"name": "MSELoss"}), classes)[1] is one_hot
        assert "needs log-probabilities" in refused(classifier({"name": "NLLLoss"}), classes)

    def test_one_class_is_nothing_to_tell_apart(self) -> None:
        assert refused(classifier({"name": "CrossEntropyLoss"}), 1).startswith("data: has one class")

    def test_layers_behind_the_ending_do_not_hide_it(self) -> None:
        assert fit_loss(classifier({"name": "NLLLoss"}, "LogSoftmax", "Flatten"), 10)[1] is class_numbers

    def test_a_model_of_ones_own_may_end_in_any_of_the_usual_ways(self) -> None:
        recipe = Recipe.from_values({"data": {"name": "mnist5k"}, "model": {"python": "m.py:make"}})
        for name in ("NLLLoss", "BCELoss", "CrossEntropyLoss"):
            fit_loss(recipe.override({"loss.name": name}), 10)
        assert "does not fit" in refused(recipe.override({"loss.name": "HingeEmbeddingLoss"}), 10)

    def test_a_loss_without_a_lowest_value_is_refused(self) -> None:
        class Endless(nn.Module):
            """The wrong scores' mean less the right one: always worth raising further."""

            def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
                right = outputs.gather(1, targets.unsqueeze(1))
                return (outputs.mean(1, keepdim=True) - right).mean()

        with pytest.raises(Exception, match="falls without end"):
            _try_on_classes(Endless(), class_numbers, nn.Identity(), 10)
        _try_on_classes(Endless(), class_numbers, nn.Softmax(1), 10)  # the twin: bounded by its ending

    @pytest.mark.parametrize(
        ("loss", "said"),
        [
            (
                {"weight": [1.0, 2.0]},
                "loss: CrossEntropyLoss does not fit with its parameters: weight tensor should be",
            ),
            ({"label_smoothing": 2.0}, "loss: CrossEntropyLoss does not fit with its parameters: label_smoothing must"),
            ({"reduction": "sum"}, "loss.reduction: must be 'mean'"),
            ({"reduction": "none"}, "loss.reduction: must be 'mean'"),
            ({"label_smoothing": "x"}, "loss.label_smoothing: 'x' is not float."),
        ],
    )
    def test_parameters_that_do_not_fit_are_told_apart_from_the_loss(self, loss: dict[str, Any], said: str) -> None:
        assert refused(classifier({"name": "CrossEntropyLoss", **loss}), 10).startswith(said)

    def test_label_smoothing_is_torchs_own(self) -> None:
        recipe = classifier({"name": "CrossEntropyLoss", "label_smoothing": 0.2})
        task, layer = make_task(recipe, Facts((4,), 10), CPU), nn.Linear(4, 10)
        batch = Batch(torch.randn(6, 4), torch.tensor([0, 9, 3, 3, 1, 2]))
        found = task.step(layer, batch).loss
        assert torch.equal(found, nn.functional.cross_entropy(layer(batch.inputs), batch.targets, label_smoothing=0.2))
        assert not torch.equal(found, nn.functional.cross_entropy(layer(batch.inputs), batch.targets))
        assert trained(recipe, 60, adam)[1] > 0.8

    def test_trying_a_loss_draws_no_random_number(self) -> None:
        before = torch.get_rng_state()
        for name in LOSSES:
            if name in FITS_SCORES:
                make_task(classifier({"name": name}, "Dropout"), Facts((1, 28, 28), 10), CPU)
            else:
                refused(classifier({"name": name}, "Dropout"), 10)
        assert torch.equal(before, torch.get_rng_state())


class TestRegression:
    @pytest.mark.parametrize("name", LOSSES)
    def test_a_loss_that_fits_numbers_learns_a_line_and_any_other_is_refused_by_name(self, name: str) -> None:
        recipe = regressor({"name": name})
        if name not in FITS_NUMBERS:
            assert refused(recipe, 1).startswith(f"loss.name: {name} ")
            assert refused(recipe, 3).startswith(f"loss.name: {name} ")
            return
        losses, r2 = trained(recipe, 150, lambda parameters: torch.optim.Adam(parameters, lr=0.02))
        assert losses[-1] < 0.3 * losses[0]
        assert r2 > 0.9

    def test_a_count_is_predicted_with_a_poisson_loss_behind_a_softplus_only(self) -> None:
        loss = {"name": "PoissonNLLLoss", "log_input": False}
        assert isinstance(fit_loss(regressor(loss, "Softplus"), 1)[0], nn.PoissonNLLLoss)
        assert refused(regressor(loss), 1).startswith("loss.name: PoissonNLLLoss does not fit regression")
        log_rate = regressor({"name": "PoissonNLLLoss"}, "Softplus")  # its outputs would not be what is predicted
        assert "is not lowest where the outputs are the targets" in refused(log_rate, 1)


class TestBalanced:
    COUNTS = (400, 90, 10)

    def test_weights_are_scikit_learns_formula(self) -> None:
        labels = np.repeat(np.arange(3), self.COUNTS)
        formula = len(labels) / (3 * np.bincount(labels))
        assert balanced(self.COUNTS) == pytest.approx(formula)
        loss = make_loss(classifier({"name": "CrossEntropyLoss", "class_weights": "balanced"}), self.COUNTS)
        assert isinstance(loss.weight, Tensor)
        assert loss.weight.tolist() == pytest.approx(formula)

    def test_a_class_without_a_sample_weighs_1_and_counts_for_no_class(self) -> None:
        assert balanced((30, 0, 10)) == pytest.approx([40 / (2 * 30), 1, 40 / (2 * 10)])
        assert balanced((30, 99, 10), ignored=1) == balanced((30, 0, 10))

    def test_they_are_counted_on_the_training_samples_alone(self) -> None:
        recipe = preset("breast-cancer-mlp").recipe.override({"loss.class_weights": "balanced"})
        data = ready(recipe)
        targets = torch.cat([batch.targets for batch in data.train.epoch(0)])
        assert data.facts.class_counts == tuple(torch.bincount(targets).tolist())
        whole = ready(recipe.override({"data.split": {"train": 1.0, "val": 0.0, "test": 0.0}}))
        assert whole.facts.class_counts == (212, 357) != data.facts.class_counts

    def test_ones_own_dataset_is_read_for_them_only_if_asked(self, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(
            "class D(list):\n    classes = ['a', 'b']\n    def __getitem__(self, i): return [1.0], int(i >= 15)\n"
            "def make(): return D(range(20))\n",
        )
        values = {"data": {"python": f"{file}:make", "split": {"train": 1.0, "val": 0.0, "test": 0.0}}}
        recipe = Recipe.from_values(values)
        assert ready(recipe).facts.class_counts is None
        assert ready(recipe.override({"loss.class_weights": "balanced"})).facts.class_counts == (15, 5)

    def test_an_empty_class_is_noted(self) -> None:
        few = {"train": 0.002, "val": 0.0, "test": 0.0}
        recipe = classifier({"name": "CrossEntropyLoss", "class_weights": "balanced"}).override({"data.split": few})
        counts = ready(recipe).facts.class_counts
        assert counts is not None
        assert f"{counts.count(0)} of 10 classes have no training sample" in ready(recipe).notes[0]
        unweighted = ready(recipe.override({"loss.class_weights": "none"})).notes[0]
        assert "have no training sample (" in unweighted
        assert "weigh" not in unweighted
        every = recipe.override({"data.split": {"train": 0.5, "val": 0.0, "test": 0.0}})
        assert ready(every).notes == ()

    def test_what_was_found_out_of_a_persons_file_is_noted(self, tmp_path: Path) -> None:
        rows = [f"{i},{i % 7 or ''},{'ab'[i % 2]}" for i in range(40)]
        (tmp_path / "t.csv").write_text("\n".join(["x,w,target", *rows, "1,1,rare"]))
        values = {"data": {"path": str(tmp_path / "t.csv"), "split": {"train": 1.0, "val": 0.0, "test": 0.0}}}
        said = ready(Recipe.from_values(values)).notes[0]
        assert "6 cells are missing" in said
        assert "class 'rare' has one sample" in said

    @pytest.mark.parametrize(
        ("recipe", "said"),
        [
            (
                classifier({"name": "MSELoss", "class_weights": "balanced"}),
                "loss.class_weights: MSELoss has no weight a class. Remove it, or use CrossEntropyLoss.",
            ),
            (
                classifier({"name": "CrossEntropyLoss", "class_weights": "balanced", "weight": [1.0] * 10}),
                "loss.class_weights: does not go with loss.weight. Remove one of them.",
            ),
            (
                regressor({"name": "MSELoss", "class_weights": "balanced"}),
                "loss.class_weights: is for classes, of which a regression has none. Remove it.",
            ),
        ],
    )
    def test_where_they_make_no_sense_they_are_refused(self, recipe: Recipe, said: str) -> None:
        assert refused(recipe, 10) == said

    @pytest.mark.parametrize("name", ["CrossEntropyLoss", "MultiMarginLoss", "NLLLoss"])
    def test_a_mistake_counts_more_in_a_rare_class(self, name: str) -> None:
        wrong = nn.functional.log_softmax(torch.tensor([[5.0, 0, 0], [0, 0, 5.0]]), 1)
        targets = torch.tensor([2, 0])  # one mistake of the rarest class and one of the most common

        def share(class_weights: str) -> float:
            """Of the gradient, what is due to the rare class's sample."""
            recipe = classifier({"name": name, "class_weights": class_weights}, "LogSoftmax")
            scores = wrong.clone().requires_grad_()
            fit_loss(recipe, 3, self.COUNTS)[0](scores, targets).backward()
            assert scores.grad is not None
            each = scores.grad.abs().sum(1)
            return float(each[0] / each.sum())

        assert share("none") == pytest.approx(0.5)
        assert share("balanced") == pytest.approx(400 / 410, rel=1e-3)

    @pytest.mark.parametrize("name", ["BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"])
    def test_a_weight_of_scores_balances_nothing_and_is_refused(self, name: str) -> None:
        said = refused(classifier({"name": name, "class_weights": "balanced"}), 3)
        assert said.startswith(f"loss.class_weights: the weight of {name} is one of scores, not of samples")
        fit_loss(classifier({"name": name, "weight": [1.0, 2.0, 3.0]}), 3)  # by hand it is torch's own


class TestWeighedMeans:
    RECIPES: Sequence[dict[str, Any]] = (
        {"name": "CrossEntropyLoss", "class_weights": "balanced"},
        {"name": "CrossEntropyLoss", "class_weights": "balanced", "label_smoothing": 0.1},
        {"name": "CrossEntropyLoss", "weight": [0.0, 1.0, 3.0]},
        {"name": "CrossEntropyLoss", "weight": [0.0, 1.0, 3.0], "label_smoothing": 0.1},
        {"name": "CrossEntropyLoss", "ignore_index": 1},
        {"name": "CrossEntropyLoss", "ignore_index": -1},
        {"name": "CrossEntropyLoss", "ignore_index": 255, "class_weights": "balanced"},
        {"name": "MultiMarginLoss", "class_weights": "balanced"},
        {"name": "BCEWithLogitsLoss", "weight": [1.0, 2.0, 3.0]},
        {"name": "MSELoss"},
    )

    def setting(self, loss: dict[str, Any]) -> tuple[Task, nn.Linear, Tensor, Tensor]:
        """16 samples sorted by class, so that whole micro-batches weigh little or nothing; some are of no class."""
        torch.manual_seed(0)
        task = make_task(classifier(loss), Facts((5,), 3, class_counts=(60, 30, 10)), CPU)
        targets = torch.tensor([0] * 6 + [1] * 6 + [2] * 4)
        if loss.get("ignore_index", 0) not in range(3):
            targets[3:6] = loss["ignore_index"]
        return task, nn.Linear(5, 3), torch.randn(16, 5), targets

    @pytest.mark.parametrize("loss", RECIPES, ids=str)
    @pytest.mark.parametrize("parts", [2, 4, 16])
    def test_accumulation_gives_the_gradients_of_the_whole_batch(self, loss: dict[str, Any], parts: int) -> None:
        task, layer, inputs, targets = self.setting(loss)
        whole = weighed(targets, task, layer, inputs, 1)
        for ours, theirs in zip(weighed(targets, task, layer, inputs, parts), whole, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

    def test_shares_by_samples_would_not(self) -> None:
        task, layer, inputs, targets = self.setting({"name": "CrossEntropyLoss", "class_weights": "balanced"})
        whole = weighed(targets, task, layer, inputs, 1)
        layer.zero_grad()
        for part in Batch(inputs, targets).split(4):
            (task.step(layer, part).loss * (len(part) / len(inputs))).backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        assert not torch.allclose(layer.weight.grad, whole[0], atol=1e-3)

    @pytest.mark.parametrize("loss", RECIPES, ids=str)
    def test_the_loss_is_torchs_mean_over_the_whole_set_however_it_comes(self, loss: dict[str, Any]) -> None:
        task, layer, inputs, targets = self.setting(loss)
        module, form = fit_loss(classifier(loss), 3, (60, 30, 10))
        total = weight = 0.0
        for part in Batch(inputs, targets).split(5):
            share = float(task.weight(part.targets))
            total, weight = total + float(task.step(layer, part).loss.detach()) * share, weight + share
        outputs = layer(inputs)
        assert total / weight == pytest.approx(module(outputs, form(targets, outputs)).item(), rel=1e-5)

    def test_samples_weigh_by_their_number_unless_the_loss_weighs_them(self) -> None:
        targets = torch.tensor([0, 0, 2])
        for loss in self.RECIPES[-3:]:  # torch divides the sums of these by the number of samples or of scores
            weight = self.setting(loss)[0].weight(targets)
            assert weight == 3
            assert isinstance(weight, int)
        weight = self.setting(self.RECIPES[2])[0].weight(targets)
        assert isinstance(weight, Tensor)
        assert float(weight) == 3

    def test_a_micro_batch_that_weighs_nothing_does_no_harm(self) -> None:
        task, layer, inputs, _ = self.setting({"name": "CrossEntropyLoss", "weight": [0.0, 1.0, 3.0]})
        nothing = torch.zeros(16, dtype=torch.long)
        assert float(task.step(layer, Batch(inputs, nothing)).loss.detach()) == 0
        assert all(float(gradient.abs().sum()) == 0 for gradient in weighed(nothing, task, layer, inputs, 4))
        assert nn.CrossEntropyLoss(torch.tensor([0.0, 1.0, 3.0]))(layer(inputs), nothing).isnan()  # torch's own

    def test_what_the_loss_ignores_accuracy_ignores(self) -> None:
        task = make_task(classifier({"name": "CrossEntropyLoss", "ignore_index": -1}), Facts((5,), 3), CPU)
        shares = task.contributions(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, -1, 2, 1]))
        assert task.summarize(shares.sum(0).tolist(), 4)["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("loss", [{"name": "MSELoss"}, {"name": "BCELoss"}, {"name": "HuberLoss"}], ids=str)
def test_losses_are_computed_in_single_precision_inside_autocast(loss: dict[str, Any]) -> None:
    """BCELoss would refuse, and others would round to three digits."""
    task = make_task(classifier(loss, "Sigmoid"), Facts((5,), 3), CPU)
    model, batch = nn.Sequential(nn.Linear(5, 3), nn.Sigmoid()), Batch(torch.randn(8, 5), torch.arange(8) % 3)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = task.step(model, batch)
    assert outcome.outputs.dtype == torch.bfloat16
    assert outcome.loss.dtype == torch.float32
