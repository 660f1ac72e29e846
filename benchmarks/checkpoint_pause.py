"""How long a training stands still for a checkpoint of 50 MB, beside a plain torch.save of the same state.

    python benchmarks/checkpoint_pause.py [ROUNDS] [FOLDER]

Both are timed in turns in one process, so that what else the machine does falls on both alike.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoints
from engine.checkpoints.writer import CheckpointWriter


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model and its Adam after one step: 4.2 million parameters, 16.7 MB, and twice that in the optimizer."""
    model = nn.Sequential(*(nn.Linear(512, 512) for _ in range(16)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 512)).sum().backward()
    optimizer.step()
    return model, optimizer


def size(value: object) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, (list, tuple)) else 0


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def main(rounds: int, folder: Path | None) -> None:
    model, optimizer = trained()
    megabytes = (size(model.state_dict()) + size(optimizer.state_dict())) / 1e6
    with tempfile.TemporaryDirectory(dir=folder) as place:
        writer = CheckpointWriter(Checkpoints(Path(place) / "checkpoints"))
        ours, plain = [], []
        for step in range(rounds + 1):

            def save(step: int = step) -> None:
                writer.save(0, step, {"model": model.state_dict()}, {"optimizer": optimizer.state_dict()})

            ours.append(milliseconds(save))
            writer.wait()  # the writer's own work is not to disturb what is timed next
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            plain.append(milliseconds(lambda state=state: torch.save(state, Path(place) / "plain.pt")))  # type: ignore[misc]
        if not writer.close():
            sys.exit(f"a checkpoint could not be written: {writer.trouble}")
    first, median, plain_median = ours[0], statistics.median(ours[1:]), statistics.median(plain[1:])
    print(f"{megabytes:.1f} MB, {rounds} rounds, {torch.get_num_threads()} threads")
    print(f"pause of the loop     {median:7.1f} ms median, {max(ours[1:]):.1f} ms worst, {first:.1f} ms the first time")
    print(f"plain torch.save      {plain_median:7.1f} ms median, {max(plain[1:]):.1f} ms worst")
    print(f"ratio                 {plain_median / median:7.1f}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(max(10, int(given[0])) if given else 15, Path(given[1]) if len(given) > 1 else None)
