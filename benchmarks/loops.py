"""The tutorial's loop, a hand-tuned loop and torch-tui over the same work: samples a second, interleaved, medians.

    python benchmarks/loops.py [W1 W2 W3 W4] [--rounds 5]

The tutorial loop is the one of PyTorch's own tutorials: a torchvision dataset that transforms each sample, a DataLoader
without workers, `loss.item()` every step. The hand-tuned loop holds the data as one tensor, normalised ahead, and never
reads the loss. What is timed is training alone: no validation, no start.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

# As `torch-tui` itself does, before torch loads: two threads on two cores stall each other otherwise.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.made_data import write_cifar, write_mnist
from benchmarks.works import WORKS, Work
from engine.checkpoints.checkpoint import Checkpoints
from engine.job import Job
from engine.recipe import Recipe


def tutorial(work: Work, root: Path) -> float:
    """Samples a second of the tutorial's loop."""
    augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if work.augment else []
    steps = transforms.Compose([*augment, transforms.ToTensor(), transforms.Normalize(*work.normal)])
    dataset = getattr(torchvision.datasets, work.data)(root, train=True, transform=steps)
    loader = DataLoader(dataset, batch_size=work.batch, shuffle=True)
    torch.manual_seed(0)
    model = work.make()
    optimizer, criterion = work.optimizer(model), torch.nn.CrossEntropyLoss()
    running = 0.0
    batches = iter(loader)
    next(batches)
    began = time.perf_counter()
    for _ in range(work.steps[0]):
        inputs, targets = next(batches)
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return work.steps[0] * work.batch / (time.perf_counter() - began)


def tuned(work: Work, root: Path) -> float:
    """Samples a second of a loop made for this very work."""
    dataset = getattr(torchvision.datasets, work.data)(root, train=True)
    pixels = torch.as_tensor(dataset.data)
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in work.normal)
    inputs, targets = (pixels.float() / 255 - mean) / std, torch.as_tensor(dataset.targets)
    torch.manual_seed(0)
    model = work.make().train()
    optimizer = work.optimizer(model)
    began = time.perf_counter()
    order = torch.randperm(len(inputs))
    for step in range(work.steps[1]):
        index = order[step * work.batch : (step + 1) * work.batch]
        batch = inputs[index]
        if work.augment:
            batch = _augmented(batch)
        loss = F.cross_entropy(model(batch), targets[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return work.steps[1] * work.batch / (time.perf_counter() - began)


def _augmented(batch: Tensor) -> Tensor:
    """A crop of its own for each sample after four pixels of padding, and a flip of half of them."""
    count, _, height, width = batch.shape
    padded = F.pad(batch, (4, 4, 4, 4))
    rows = torch.randint(9, (count, 1)) + torch.arange(height)
    columns = torch.randint(9, (count, 1)) + torch.arange(width)
    flipped = torch.rand(count, 1) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    sample = torch.arange(count)[:, None, None]
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def ours(work: Work, root: Path) -> float:
    """Samples a second of torch-tui, headless: by the run's own clock, which leaves out nothing of the training."""
    with tempfile.TemporaryDirectory() as runs:
        job = Job.create(Recipe.from_values(work.recipe()), Path(runs), "speed")
        job.start()
        job.join()
        assert job.history.error is None, job.history.error
        # The last checkpoint is taken at the end of the epoch: the test of the weights, which follows, is left out.
        position = Checkpoints(job.directory.checkpoints).load_newest(print)[1].state["position"]
        return work.steps[1] * work.batch / float(position["seconds"])


CONTESTANTS: dict[str, Callable[[Work, Path], float]] = {"tutorial": tutorial, "tuned": tuned, "torch-tui": ours}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("works", nargs="*", default=list(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {chosen.rounds} rounds, medians of samples a second")
    print(f"{'':28}{'tutorial':>10}{'tuned':>10}{'torch-tui':>11}{'/ tutorial':>12}{'/ tuned':>9}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["TORCH_TUI_DATA"] = folder
        write_mnist(root)
        write_cifar(root)
        # The hashes are those of the real files.
        with patch.object(torchvision.datasets.cifar, "check_integrity", lambda *given: True):
            for name in chosen.works:
                work = WORKS[name]
                measured: dict[str, list[float]] = {each: [] for each in CONTESTANTS}
                for _ in range(chosen.rounds):
                    for each, run in CONTESTANTS.items():
                        measured[each].append(run(work, root))
                plain, best, own = (statistics.median(values) for values in measured.values())
                pairs = {
                    each: statistics.median(a / b for a, b in zip(measured["torch-tui"], measured[each], strict=True))
                    for each in ("tutorial", "tuned")
                }
                shares = f"{pairs['tutorial']:11.2f}×{pairs['tuned']:9.2f}"
                print(f"{work.name:28}{plain:10,.0f}{best:10,.0f}{own:11,.0f}{shares}")


if __name__ == "__main__":
    main()
