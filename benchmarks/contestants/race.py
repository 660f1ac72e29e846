"""What every contestant needs: the work, the files as the tutorials read them, a stopwatch, the accuracy in the end."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from benchmarks.works import DEVICES, PRECISIONS, WORKS, Work


@dataclass(frozen=True)
class Race:
    """One training: `steps` batches of each of `epochs`, shuffled, from the files in `root`."""

    work: Work
    root: Path
    epochs: int
    steps: int
    seed: int
    workers: int
    device: str = "cpu"
    precision: str = "fp32"
    wants_channels_last: bool = False

    @classmethod
    def entered(cls) -> Race:
        """As the command line says. From here on random numbers follow from the seed."""
        parser = argparse.ArgumentParser()
        parser.add_argument("work", choices=WORKS)
        parser.add_argument("root", type=Path)
        parser.add_argument("--epochs", type=int, default=1)
        parser.add_argument("--steps", type=int, help="batches of an epoch; the work says how many, if this does not")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--workers", type=int, default=0, help="of each DataLoader")
        parser.add_argument("--device", choices=DEVICES, default="cpu")
        parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16 is mixed")
        parser.add_argument("--channels-last", action="store_true")
        given = parser.parse_args()
        # torchvision compares CIFAR10's files with the hashes of the real ones; these are made.
        torchvision.datasets.cifar.check_integrity = lambda *given: True
        torch.manual_seed(given.seed)
        work = WORKS[given.work]
        steps = given.steps or work.steps
        return cls(
            work, given.root, given.epochs, steps, given.seed, given.workers, given.device, given.precision,
            given.channels_last,
        )  # fmt: skip

    @property
    def channels_last(self) -> bool:
        """Whether pictures are laid out channel by channel a pixel: often faster, with other rounding.

        In half precision on a GPU nobody who tunes by hand does without.
        """
        return self.wants_channels_last or (self.device, self.precision) == ("cuda", "bf16")

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")

    def recipe(self) -> dict[str, Any]:
        """The race for torch-tui."""
        return self.work.recipe(
            self.epochs, self.steps, self.seed, self.device, self.precision, channels_last=self.channels_last
        )

    def dataset(self) -> torchvision.datasets.VisionDataset:
        """The training files, each sample transformed when it is asked for."""
        augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if self.work.augment else []
        steps = transforms.Compose([*augment, transforms.ToTensor(), transforms.Normalize(*self.work.normal)])
        return getattr(torchvision.datasets, self.work.data)(self.root, train=True, transform=steps)

    def sampler(self, dataset: Any) -> RandomSampler:
        """An epoch of `steps` whole batches, drawn anew each time from all samples."""
        return RandomSampler(dataset, num_samples=self.steps * self.work.batch)

    def batches(self) -> DataLoader[Any]:
        """The tutorials' DataLoader of the dataset."""
        dataset = self.dataset()
        return DataLoader(
            dataset,
            batch_size=self.work.batch,
            sampler=self.sampler(dataset),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def tensors(self, *, train: bool = True, padding: int = 0) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) normalised pictures in a black frame of `padding` pixels, and (N,) labels of a part."""
        dataset = getattr(torchvision.datasets, self.work.data)(self.root, train=train)
        pixels = torch.as_tensor(dataset.data)
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        pixels = F.pad(pixels, (padding,) * 4)
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in self.work.normal)
        return ((pixels.float() / 255 - mean) / std).contiguous(), torch.as_tensor(dataset.targets)

    def accuracy(self, model: nn.Module) -> float:
        """Share of the test files that a trained model gets right."""
        inputs, targets = self.tensors(train=False)
        model.to("cpu").eval()  # the same arithmetic for all
        with torch.no_grad():
            right = [
                (model(some).argmax(1) == labels).sum()
                for some, labels in zip(inputs.split(500), targets.split(500), strict=True)
            ]
        return int(torch.stack(right).sum()) / len(targets)

    def finish(self, samples_per_second: float, model: nn.Module, *packages: str) -> None:
        """Print the result, a JSON object in a line."""
        result = {
            "samples_per_second": samples_per_second,
            "accuracy": self.accuracy(model),
            "threads": torch.get_num_threads(),
            "versions": {name: version(name) for name in ("torch", *packages)},
        }
        print(json.dumps(result), flush=True)


class Stopwatch:
    """Times a training from the end of its first step to the end of its last: neither start nor validation is in it."""

    def __init__(self, race: Race) -> None:
        self._race, self._taken = race, 0
        self._began = self._ended = 0.0

    def step(self) -> None:
        """Call at the end of each step."""
        self._taken += 1
        if self._race.device == "cuda" and self._taken in (1, self._race.epochs * self._race.steps):
            torch.cuda.synchronize()  # the host is ahead of it
        if self._taken == 1:
            self._began = time.perf_counter()
        else:
            self._ended = time.perf_counter()

    @property
    def samples_per_second(self) -> float:
        """Raises RuntimeError where the training took another number of steps than the others."""
        agreed = self._race.epochs * self._race.steps
        if self._taken != agreed:
            raise RuntimeError(f"{self._taken} steps were taken, not {agreed}")
        return (agreed - 1) * self._race.work.batch / (self._ended - self._began)
