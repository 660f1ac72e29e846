from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from engine.devices.device import choose, describe, seed_everything
from engine.errors import DeviceError


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> int:
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that you have one.\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_device", no_driver)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H200")


@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_is_the_cpu() -> None:
    assert choose("auto") == choose("cpu") == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
def test_auto_on_a_mac_is_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert choose("auto") == choose("mps") == torch.device("mps")


@pytest.mark.usefixtures("two_gpus")
def test_a_chosen_gpu_carries_its_number() -> None:
    assert [str(choose(spec)) for spec in ("auto", "cuda", "cuda:0", "cuda:1")] == [
        "cuda:0",
        "cuda:0",
        "cuda:0",
        "cuda:1",
    ]


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(DeviceError) as caught:
        choose("cuda:2")

    assert caught.value.where == "training.device"
    assert caught.value.what == "there is no cuda:2"
    assert caught.value.remedy == "Use auto, cpu, cuda:0 (NVIDIA H200) or cuda:1 (NVIDIA H200)."


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_driver_gives_torchs_reason_in_one_sentence() -> None:
    with pytest.raises(DeviceError) as caught:
        choose("cuda")

    expected = "training.device: cuda is not available: Found no NVIDIA driver on your system. Use auto or cpu."
    assert str(caught.value) == expected


@pytest.mark.usefixtures("no_gpu")
def test_mps_elsewhere_than_on_a_mac_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    with pytest.raises(DeviceError, match="mps needs a Mac"):
        choose("mps")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("spec", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0"])
def test_what_is_no_device_is_refused(spec: str) -> None:
    with pytest.raises(DeviceError, match="is not a device"):
        choose(spec)


@pytest.mark.usefixtures("no_gpu")
def test_a_slip_of_the_pen_is_recognised() -> None:
    with pytest.raises(DeviceError, match="Did you mean 'cuda'"):
        choose("cude")


@pytest.mark.parametrize(("threads", "said"), [(1, "1 torch thread"), (2, "2 torch threads")])
def test_the_cpu_is_described_with_its_threads(threads: int, said: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert describe(torch.device("cpu")).endswith(f" cores, {said}")
    finally:
        torch.set_num_threads(before)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40])
def test_the_same_seed_gives_the_same_draws(seed: int) -> None:
    seed_everything(seed)
    first = draws()
    seed_everything(seed)
    second = draws()
    seed_everything(seed + 1)
    other = draws()

    assert first == second
    assert all(a != b for a, b in zip(first, other, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU")
def test_a_real_gpu_is_chosen_described_and_seeded() -> None:
    device = choose("auto")
    seed_everything(3)
    first = torch.rand(4, device=device)
    seed_everything(3)

    assert first.device == device
    assert torch.equal(first, torch.rand(4, device=device))
    assert torch.cuda.get_device_name(device) in describe(device)
