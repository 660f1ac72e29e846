"""Optimizer steps by torch's kernels: torch's own bits, and torch's own step wherever a kernel can't do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.optim import kernels
from engine.optim.kernels import Steps

Made = torch.optim.Optimizer

OPTIONS: Mapping[str, tuple[type[Made], Mapping[str, Any]]] = {
    "SGD": (torch.optim.SGD, {}),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    "SGD of Nesterov, uphill": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    "Adam": (torch.optim.Adam, {"weight_decay": 0.01}),
    "Adam with amsgrad": (torch.optim.Adam, {"amsgrad": True, "betas": (0.8, 0.95), "eps": 1e-6}),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "AdamW uphill": (torch.optim.AdamW, {"maximize": True, "amsgrad": True}),
}


class Counted:
    """An optimizer whose own steps are counted."""

    def __init__(self, optimizer: Made, *, chosen: bool = False) -> None:
        self.optimizer, self.own = optimizer, 0
        plain = optimizer.step

        def step(*_: Any) -> None:
            self.own += 1
            plain()

        optimizer.step = step  # type: ignore[assignment,method-assign]
        self.steps = Steps(optimizer, chosen=chosen)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))


def groups(model: nn.Module) -> list[dict[str, Any]]:
    parameters = list(model.parameters())
    return [{"params": parameters[:2], "lr": 0.2}, {"params": parameters[2:], "weight_decay": 0.0}]


def fill(model: nn.Module, seed: int) -> None:
    """Gradients drawn by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("name", OPTIONS)
def test_steps_come_to_torchs_own_bits_and_only_the_first_is_torchs(name: str) -> None:
    kind, options = OPTIONS[name]
    ours, theirs = network(), network()
    counted = Counted(kind(groups(ours), lr=0.1, fused=True, **options))  # type: ignore[call-arg]
    plain = kind(groups(theirs), lr=0.1, fused=True, **options)  # type: ignore[call-arg]
    for seed in range(5):
        counted.optimizer.param_groups[0]["lr"] = plain.param_groups[0]["lr"] = 0.2 / (seed + 1)
        fill(ours, seed)
        fill(theirs, seed)
        counted.steps.step()
        plain.step()
        assert torch.equal(weights(ours), weights(theirs))
    assert counted.own == (0 if name == "SGD" else 1)
    assert str(counted.optimizer.state_dict()) == str(plain.state_dict())


def sgd(model: nn.Module, *, chosen: bool = False, **options: Any) -> Counted:
    return Counted(torch.optim.SGD(groups(model), lr=0.1, momentum=0.9, fused=False, **options), chosen=chosen)


def test_sgd_that_is_not_fused_has_a_kernel_where_all_gradients_are_there_and_dense() -> None:
    model, plain = network(), network()
    counted, theirs = sgd(model), torch.optim.SGD(groups(plain), lr=0.1, momentum=0.9, fused=False)
    for seed, missing in enumerate([(0, 1), (0, 1), (), (), (4,), ()]):
        for each in (model, plain):
            fill(each, seed)
            for index in missing:
                list(each.parameters())[index].grad = None
        before = counted.own
        counted.steps.step()
        theirs.step()
        torch.testing.assert_close(weights(model), weights(plain))
        # Torch's: the very first, and the one in which two weights have a gradient and no momentum yet.
        assert counted.own - before == (seed in (0, 2))


def test_a_sparse_gradient_is_left_to_torch() -> None:
    model = nn.Sequential(nn.Embedding(6, 4, sparse=True), nn.Linear(4, 2))
    counted = Counted(torch.optim.SGD(model.parameters(), lr=0.1, fused=False))
    before = weights(model)
    for _ in range(2):
        counted.optimizer.zero_grad()
        model(torch.tensor([0, 2])).sum().backward()
        counted.steps.step()
    assert counted.own == 2
    assert not torch.equal(weights(model), before)


def test_a_way_that_the_recipe_names_is_kept() -> None:
    for chosen in (True, False):
        model = network()
        counted = sgd(model, chosen=chosen)
        for seed in range(3):
            fill(model, seed)
            counted.steps.step()
        assert counted.own == (3 if chosen else 1)


@pytest.mark.parametrize(
    ("options", "chosen", "own"),
    [
        ({"fused": False}, False, 1),
        ({"fused": False}, True, 3),
        ({"foreach": True}, True, 3),
        ({"fused": True, "lr": torch.tensor(0.1)}, False, 3),
    ],
)
def test_adam_has_a_kernel_but_where_the_recipe_says_otherwise_or_the_rate_is_a_tensor(
    options: Mapping[str, Any], chosen: bool, own: int
) -> None:
    model, plain = network(), network()
    counted = Counted(torch.optim.Adam(model.parameters(), **options), chosen=chosen)
    theirs = torch.optim.Adam(plain.parameters(), **options)
    for seed in range(3):
        fill(model, seed)
        fill(plain, seed)
        counted.steps.step()
        theirs.step()
    assert counted.own == own
    torch.testing.assert_close(weights(model), weights(plain))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("turned", [0, 1])
def test_a_gradient_or_a_momentum_that_lies_otherwise_than_its_weights_is_torchs(kind: Any, turned: int) -> None:
    def trained(by_kernel: bool) -> Tensor:
        model = nn.Linear(3, 5, bias=False)
        nn.init.zeros_(model.weight)
        options = {"lr": 0.1, "fused": False, **({"momentum": 0.9} if kind is torch.optim.SGD else {})}
        optimizer = kind(model.parameters(), **options)
        step = Steps(optimizer).step if by_kernel else optimizer.step
        for seed in range(4):
            fill(model, seed)
            if seed == turned:
                assert model.weight.grad is not None
                model.weight.grad = model.weight.grad.t().contiguous().t()
            step()
        return weights(model)

    torch.testing.assert_close(trained(by_kernel=True), trained(by_kernel=False))


def test_who_hooks_into_steps_is_told_of_each() -> None:
    model = network()
    counted = sgd(model)
    told: list[int] = []
    for seed in range(4):
        if seed == 2:
            counted.optimizer.register_step_post_hook(lambda *_: told.append(1))
        fill(model, seed)
        counted.steps.step()
    assert counted.own == 3


@pytest.mark.parametrize("broken", ["gone", "other bits"])
def test_a_torch_whose_kernels_are_others_takes_all_steps_itself(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels._does_the_same.cache_clear()
    assert sgd(network()).steps._kernel is not None
    kernels._does_the_same.cache_clear()
    if broken == "gone":
        monkeypatch.delattr(torch, "_fused_sgd_")
    else:
        kernel = torch._fused_sgd_

        def other(*tensors: list[Tensor], lr: float, **options: Any) -> None:
            kernel(*tensors, lr=lr if "grad_scale" in options else 2 * lr, **options)  # torch itself names all

        monkeypatch.setattr(torch, "_fused_sgd_", other)
    try:
        assert sgd(network()).steps._kernel is None
        assert Steps(torch.optim.AdamW(network().parameters(), fused=True))._kernel is not None
    finally:
        kernels._does_the_same.cache_clear()
