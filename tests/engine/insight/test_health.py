"""How each layer fares: numbers as computed by hand, on sampled steps only, and no trace in the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_runs import digits, line, make_trainer, rows, same, train, weights
from torch import Tensor, nn

from engine.insight.facts import Checkup, LayerHealth
from engine.insight.health import Health, _can_die


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def one_step(health: Health, model: nn.Module, *, step: int = 1, scale: float | None = None) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    health.begin(step)
    loss = model(torch.arange(15.0).reshape(5, 3)).square().mean() * (scale or 1.0)
    loss.backward()
    health.after_backward(torch.tensor(scale) if scale else None)
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad /= scale or 1.0
    optimizer.step()
    health.after_update(step)


class Twice(nn.Module):
    """One ReLU after 4 units, which are all dead, and after 2, which are not."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.relu = nn.Linear(3, 4), nn.Linear(4, 2), nn.ReLU()
        with torch.no_grad():
            self.wide.bias.fill_(-1e6)
            self.narrow.bias.fill_(1e6)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.relu(self.narrow(self.relu(self.wide(inputs))))
        return outputs


class Large(nn.Parameter):
    """A weight for whose copy there is no room."""

    def __new__(cls, data: Tensor, error: type[Exception]) -> Large:
        made = super().__new__(cls, data)
        made.error = error
        return made

    def detach(self) -> Tensor:
        raise self.error("it can't be copied")


def by_name(checkup: Checkup) -> dict[str, LayerHealth]:
    return {layer.name: layer for layer in checkup.layers}


class TestNumbers:
    def test_norms_and_update_ratio_are_those_computed_by_hand(self) -> None:
        model = network()
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        health = Health(model, 1)

        one_step(health, model)

        (checkup,) = health.read()
        layer = by_name(checkup)["0 Linear"]
        parameters = [(before[f"0.{name}"], getattr(model[0], name)) for name in ("weight", "bias")]
        norm = torch.cat([old.flatten() for old, _ in parameters]).norm()
        update = torch.cat([(old - new.detach()).flatten() for old, new in parameters]).norm()
        gradient = torch.cat([new.grad.flatten() for _, new in parameters]).norm()
        assert layer.weight == pytest.approx(float(norm), rel=1e-5)
        assert layer.gradient == pytest.approx(float(gradient), rel=1e-5)
        assert layer.update == pytest.approx(float(update / norm), rel=1e-4)
        assert layer.dead is None

    def test_the_factor_of_gradient_scaling_is_taken_out(self) -> None:
        plain, scaled = network(), network()
        healths = Health(plain, 1), Health(scaled, 1)

        one_step(healths[0], plain)
        one_step(healths[1], scaled, scale=1024.0)

        ours, theirs = (by_name(health.read()[0])["0 Linear"] for health in healths)
        assert ours.gradient == pytest.approx(theirs.gradient, rel=1e-5)

    def test_all_units_of_a_dead_activation_are_counted(self) -> None:
        model = network()
        with torch.no_grad():
            model[0].bias.fill_(-1e6)
        health = Health(model, 1)

        one_step(health, model)

        assert by_name(health.read()[0])["1 ReLU"].dead == 1.0

    def test_a_unit_that_lives_for_one_sample_is_not_dead(self) -> None:
        model = network()
        with torch.no_grad():
            model[0].weight.zero_()
            model[0].bias.copy_(torch.tensor([1.0, -1.0, -1.0, -1.0]))
            model[0].weight[1, 0] = 0.1  # alive for the last samples alone: 0.1 · 12 - 1 > 0
        health = Health(model, 1)

        one_step(health, model)

        assert by_name(health.read()[0])["1 ReLU"].dead == 0.5

    def test_a_unit_that_lives_in_one_part_of_the_batch_is_not_dead(self) -> None:
        model = network()
        with torch.no_grad():
            model[0].weight.zero_()
            model[0].bias.copy_(torch.tensor([1.0, -1.0, -1.0, -1.0]))
            model[0].weight[1, 0] = 0.1  # alive for the last samples alone
        inputs = torch.arange(15.0).reshape(5, 3)

        def dead(*parts: Tensor) -> float | None:
            health = Health(model, 1)
            health.begin(1)
            for part in parts:
                model(part).sum().backward()
            health.after_backward()
            health.after_update(1)
            return by_name(health.read()[0])["1 ReLU"].dead

        assert dead(inputs) == 0.5
        assert dead(inputs[3:], inputs[:3]) == dead(inputs[:3], inputs[3:]) == 0.5
        assert dead(inputs[:3]) == 0.75, "the part alone says otherwise"

    def test_an_activation_that_is_called_at_two_places_is_counted_at_both_in_every_part(self) -> None:
        model = Twice()
        health = Health(model, 1)
        health.begin(1)

        for _ in range(2):
            model(torch.ones(2, 3)).sum().backward()
        health.after_backward()

        assert float(health._dead["relu ReLU"]) == pytest.approx(4 / 6), "all 4 of the first place, none of the 2"

    def test_of_pictures_channels_and_of_sequences_the_last_axis_are_units(self) -> None:
        for shape in ((2, 4, 3, 3), (2, 5, 4)):
            model = nn.Sequential(nn.Linear(shape[-1], shape[-1]), nn.ReLU())
            health = Health(model, 1)
            health.begin(1)
            inputs = torch.ones(shape)
            unit = (slice(None), 0) if len(shape) == 4 else (..., 0)
            inputs[unit] = -1
            model[1](inputs)
            health.after_backward()
            assert float(health._dead["1 ReLU"]) == 0.25

    def test_a_weight_without_a_gradient_has_one_of_zero(self) -> None:
        model = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])
        health = Health(model, 1)
        health.begin(1)
        model[0](torch.ones(1, 3)).sum().backward()

        health.after_backward()
        health.after_update(1)

        assert by_name(health.read()[0])["1 Linear"].gradient == 0

    def test_frozen_weights_are_left_out(self) -> None:
        model = network()
        model[0].requires_grad_(False)
        health = Health(model, 1)

        one_step_frozen = model(torch.ones(2, 3)).sum()
        health.begin(1)
        one_step_frozen.backward()
        health.after_backward()
        health.after_update(1)

        assert "0 Linear" not in by_name(health.read()[0])


class TestMemory:
    @pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
    def test_a_step_whose_look_does_not_fit_is_taken_all_the_same_and_not_looked_at(
        self, error: type[Exception]
    ) -> None:
        model = network()
        model[2].weight = Large(model[2].weight.detach(), error)
        health = Health(model, 1)
        before = model[2].weight.tolist()

        one_step(health, model)

        assert model[2].weight.tolist() != before
        assert health.read() == []
        assert not model[1]._forward_hooks

    def test_another_error_is_not_hidden(self) -> None:
        model = network()
        model[2].weight = Large(model[2].weight.detach(), RuntimeError)

        with pytest.raises(RuntimeError, match="copied"):
            one_step(Health(model, 1), model)


class TestSampling:
    def test_only_every_nth_step_and_the_first_are_looked_at_and_no_hook_is_left(self) -> None:
        model = network()
        health = Health(model, 4)

        for step in range(1, 10):
            one_step(health, model, step=step)
            assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

        assert [checkup.step for checkup in health.read()] == [1, 4, 8]
        assert health.read() == []

    def test_while_it_looks_there_is_a_hook(self) -> None:
        model = network()
        Health(model, 4).begin(4)

        assert len(model[1]._forward_hooks) == 1

    def test_zero_is_never(self) -> None:
        model = network()
        health = Health(model, 0)
        one_step(health, model)

        assert health.read() == []

    def test_a_step_that_is_taken_back_leaves_nothing(self) -> None:
        model = network()
        health = Health(model, 1)
        health.begin(1)

        health.drop()
        health.after_update(1)

        assert health.read() == []
        assert not model[1]._forward_hooks

    def test_what_was_found_on_steps_that_are_no_more_is_forgotten(self) -> None:
        model = network()
        health = Health(model, 1)
        one_step(health, model)

        health.forget()

        assert health.read() == []


class TestActivations:
    @pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid])
    def test_those_that_cut_off_a_half_line_can_die(self, kind: type[nn.Module]) -> None:
        assert _can_die(kind())

    @pytest.mark.parametrize("kind", [nn.LeakyReLU, nn.Tanh, nn.SiLU, nn.PReLU, nn.Softmax2d, nn.GLU])
    def test_others_cannot_and_none_is_stumbled_over(self, kind: type[nn.Module]) -> None:
        assert not _can_die(kind())

    def test_a_layer_that_is_none_is_not_one(self) -> None:
        assert not _can_die(nn.Dropout(1.0))


class TestRun:
    def test_the_training_is_the_same_bits_with_it(self, root: Path) -> None:
        looked = train(digits({"training.health_every": 1}), root)
        free = train(digits({"training.health_every": 0}), root)

        assert same(weights(looked.directory), weights(free.directory))
        assert rows(looked.directory, "train/", "val/") == rows(free.directory, "train/", "val/")
        assert not rows(free.directory, "health/")

    def test_the_numbers_are_rows_on_disk_and_the_newest_in_memory(self, root: Path) -> None:
        job = train(digits({"training.health_every": 4}), root)

        found = rows(job.directory, "health/")
        assert set(found["health/1 Linear/gradient"]) == {1, 4, 8, 12, 16, 20, 24}
        assert set(found["health/3 ReLU/dead"]) == {1, 4, 8, 12, 16, 20, 24}
        assert all(0 <= share <= 1 for share in found["health/3 ReLU/dead"].values())
        assert job.history.checkup is not None
        assert job.history.checkup.step == 24

    def test_a_clipped_gradient_is_shown_as_it_was(self, root: Path) -> None:
        changes = {"training.health_every": 1, "training.epochs": 1}
        plain = train(line(changes), root)
        clipped = train(line({**changes, "training.clip_grad_norm": 1e-3}), root)

        ours, theirs = (rows(job.directory)["health/0 Linear/gradient"][1] for job in (clipped, plain))
        assert ours == theirs > 1e-3

    def test_a_model_without_weights_to_train_is_no_trouble(self, root: Path) -> None:
        health = Health(nn.Sequential(nn.ReLU()), 1)
        health.begin(1)

        assert not health._looking


def test_a_trainer_reads_what_was_found(root: Path) -> None:
    trainer = make_trainer(line({"training.health_every": 5}), network_of_one(), root)
    trainer.run()

    assert trainer._recorder.history.checkup is not None
    assert trainer._recorder.history.checkup.step == 10


def network_of_one() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
