"""How much sooner a CPU does steps with pictures channels last, on which `training.channels_last = "auto"` rests.

`python benchmarks/layouts.py [NAMES] [--rounds 9] [--threads 1]`. A step is forward, backward and SGD on a batch of
noise. Time of the processor, interleaved, the median of ratios; above 1 channels last is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision.models as zoo
from torch import Tensor, nn

_LAYOUTS = (torch.contiguous_format, torch.channels_last)
_ROUND_S = 0.25


def _headed(*layers: nn.Module) -> nn.Module:
    """Layers that end with 64 channels, and a head of ten classes."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _normed(norm: Callable[[int], nn.Module]) -> nn.Module:
    first = (nn.Conv2d(3, 32, 3, padding=1), norm(32), nn.ReLU(), nn.MaxPool2d(2))
    return _headed(*first, nn.Conv2d(32, 64, 3, padding=1), norm(64), nn.ReLU())


def _conv(*, groups: int = 1, dilation: int = 1) -> nn.Module:
    second = nn.Conv2d(32, 32, 3, padding=dilation, dilation=dilation, groups=groups)
    first = (nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), second, nn.ReLU())
    return _headed(*first, nn.Conv2d(32, 64, 1), nn.ReLU())


def _lenet() -> nn.Module:
    convolutions = (nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def _generator() -> nn.Module:
    down = (nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU())
    up = (nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1))
    return nn.Sequential(*down, *up, nn.Tanh())


def _zoo(name: str) -> Callable[[], nn.Module]:
    return lambda: zoo.get_model(name, weights=None, num_classes=10)


_SMALL = (64, 3, 32, 32)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet": (_lenet, (64, 1, 28, 28)),
    "no norm": (lambda: _normed(lambda channels: nn.Identity()), _SMALL),
    "BatchNorm2d": (lambda: _normed(nn.BatchNorm2d), _SMALL),
    "GroupNorm": (lambda: _normed(lambda channels: nn.GroupNorm(4, channels)), _SMALL),
    "InstanceNorm2d": (lambda: _normed(nn.InstanceNorm2d), _SMALL),
    "LocalResponseNorm": (lambda: _normed(lambda channels: nn.LocalResponseNorm(5)), _SMALL),
    "depthwise": (lambda: _conv(groups=32), _SMALL),
    "with gaps": (lambda: _conv(dilation=4), _SMALL),
    "generator": (_generator, _SMALL),
    "resnet18": (_zoo("resnet18"), _SMALL),
    "vgg11": (_zoo("vgg11"), (8, 3, 64, 64)),
    "alexnet": (_zoo("alexnet"), (32, 3, 64, 64)),
    "densenet121": (_zoo("densenet121"), (8, 3, 64, 64)),
    "mobilenet_v3_small": (_zoo("mobilenet_v3_small"), (16, 3, 64, 64)),
    "efficientnet_b0": (_zoo("efficientnet_b0"), (8, 3, 64, 64)),
    "squeezenet1_1": (_zoo("squeezenet1_1"), (16, 3, 64, 64)),
    "convnext_tiny": (_zoo("convnext_tiny"), (4, 3, 64, 64)),
}


def gains(make: Callable[[], nn.Module], pictures: Tensor, rounds: int) -> tuple[float, list[float]]:
    """Seconds of a step as torch lays it out, and for each round how many times as fast channels last is."""
    models = {layout: make().to(memory_format=layout) for layout in _LAYOUTS}
    optimizers = {layout: torch.optim.SGD(model.parameters(), 0.01) for layout, model in models.items()}

    def steps(layout: torch.memory_format, count: int) -> float:
        began = time.process_time()
        for _ in range(count):
            models[layout](pictures.to(memory_format=layout)).square().mean().backward()
            optimizers[layout].step()
            optimizers[layout].zero_grad()
        return (time.process_time() - began) / count

    for layout in _LAYOUTS:
        steps(layout, 2)
    count = max(1, int(_ROUND_S / steps(torch.contiguous_format, 1)))
    taken = [[steps(layout, count) for layout in _LAYOUTS] for _ in range(rounds)]
    return statistics.median(plain for plain, _ in taken), [plain / last for plain, last in taken]


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    for name in given.names:
        make, shape = CASES[name]
        step, found = gains(make, torch.rand(shape), given.rounds)
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(
            f"{name:20} {1000 * step:7.1f} ms a step, channels last {statistics.median(found):.2f}× ({spread})",
            flush=True,
        )


if __name__ == "__main__":
    main()
