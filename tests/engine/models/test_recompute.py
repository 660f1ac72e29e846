"""Recomputed activations: less memory, and everything else the same to the bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from engine.errors import RecipeError
from engine.models import recompute as module_under_test
from engine.models.blocks import Chain
from engine.models.recompute import recompute


def chain() -> Chain:
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Linear(32, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(0.3)]
    return Chain(*layers, nn.Linear(32, 3))


def recurrent() -> Chain:
    return Chain(nn.LSTM(32, 16, batch_first=True), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * 4, 3))


def zoo(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model: nn.Module = getattr(models, name)(weights=None, num_classes=3, **options)
        return model

    make.__name__ = name
    return make


MODELS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (chain, (8, 32)),
    (recurrent, (2, 4, 32)),
    (zoo("resnet18"), (2, 3, 32, 32)),
    (zoo("vgg11_bn"), (2, 3, 32, 32)),
    (zoo("densenet121"), (2, 3, 32, 32)),
    (zoo("mobilenet_v3_small"), (2, 3, 32, 32)),
    (zoo("vit_b_16", image_size=32), (2, 3, 32, 32)),
]
each = pytest.mark.parametrize(("make", "shape"), MODELS, ids=[make.__name__ for make, _ in MODELS])


def made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().train()


def inputs_of(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator), torch.arange(shape[0]) % 3


def trained(model: nn.Module, shape: tuple[int, ...], *, bf16: bool = False) -> dict[str, Tensor]:
    """Loss, gradients, weights and buffers after two steps, and the random state."""
    inputs, targets = inputs_of(shape)
    torch.manual_seed(7)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    found: dict[str, Tensor] = {}
    for step in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(inputs).float(), targets)
        loss.backward()
        optimizer.step()
        found[f"loss {step}"] = loss.detach()
    found |= {f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found | {**model.state_dict(), "random": torch.get_rng_state()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name, value in one.items() if not torch.equal(value, other[name])]


def kept_bytes(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes of distinct activations that the backward pass keeps."""
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(inputs_of(shape)[0]).sum()
    return sum(size for size, _ in kept.values())


@each
def test_training_is_the_same_to_the_bit(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = made(make)
    keys = list(model.state_dict())
    again = copy.deepcopy(model)
    assert recompute(again) > 1
    assert list(again.state_dict()) == keys
    assert differing(trained(model, shape), trained(again, shape)) == []


def test_without_care_for_buffers_statistics_would_be_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.checkpoint import noop_context_fn

    monkeypatch.setattr(module_under_test, "_contexts", lambda layers: noop_context_fn())
    again = made(chain)
    recompute(again)
    assert any(
        "num_batches_tracked" in name for name in differing(trained(made(chain), (8, 32)), trained(again, (8, 32)))
    )


def test_bf16_training_is_the_same_to_the_bit() -> None:
    again = made(chain)
    recompute(again)
    assert differing(trained(made(chain), (8, 32), bf16=True), trained(again, (8, 32), bf16=True)) == []


@each
def test_activations_take_less_memory(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = made(make)
    before = kept_bytes(model, shape)
    recompute(model)
    after = kept_bytes(model, shape)
    assert after < before * (0.9 if make is recurrent else 0.75), (before, after)


@pytest.mark.parametrize("make", [chain, zoo("resnet18")])
def test_copies_and_pickles_compute_with_their_own_weights(make: Callable[[], nn.Module]) -> None:
    shape = (8, 32) if make is chain else (2, 3, 32, 32)
    model = made(make)
    recompute(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not other(inputs_of(shape)[0]).any()
        assert model(inputs_of(shape)[0]).any()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert averaged(inputs_of(shape)[0]).shape == (shape[0], 3)


@each
def test_evaluation_is_as_before(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = made(make).eval()
    inputs = inputs_of(shape)[0]
    with torch.inference_mode():
        before = model(inputs)
        recompute(model)
        assert torch.equal(model(inputs), before)


def test_many_single_layers_make_about_the_square_root_of_pieces() -> None:
    assert recompute(Chain(*(nn.Linear(2, 2) for _ in range(25)))) == 5
    assert recompute(Chain(*(nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(7)))) == 7


def test_layers_that_work_in_place_stay_with_the_layer_before() -> None:
    def begins_in_place() -> nn.Module:
        return nn.Sequential(nn.ReLU(inplace=True), *(nn.Linear(32, 32) for _ in range(3)), nn.ReLU(inplace=True))

    again = made(begins_in_place)
    # √5 makes three a piece: the first would begin with a ReLU, and begins nowhere; the second has the last two layers.
    assert recompute(again) == 1
    torch.manual_seed(3)
    first = nn.Linear(32, 32)
    outer = [nn.ModuleList([copy.deepcopy(first), model]) for model in (made(begins_in_place), again)]
    for model in outer:
        model.forward = lambda x, model=model: model[1](model[0](x))  # type: ignore[assignment]
    plain, other = (trained(model, (8, 32)) for model in outer)
    assert differing(plain, other) == []


def test_a_model_without_a_container_is_refused() -> None:
    for model in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))):
        with pytest.raises(RecipeError, match=r"training\.gradient_checkpointing: the model has no Sequential"):
            recompute(model)
