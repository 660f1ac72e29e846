"""What tests of checkpoints do with them: write, look into, damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoints.checkpoint import Checkpoint, Checkpoints
from engine.checkpoints.manifest import seal
from engine.checkpoints.snapshot import Snapshots

STATE = {"position": {"step": 30}, "random": torch.arange(3)}


def weights(value: float | None = None) -> dict[str, Tensor]:
    """A small layer's weights, all of them `value` if one is given."""
    torch.manual_seed(0)
    made = nn.Linear(3, 2).state_dict()
    return made if value is None else {name: torch.full_like(tensor, value) for name, tensor in made.items()}


def write(
    checkpoints: Checkpoints,
    epoch: int,
    step: int,
    state: Mapping[str, Any] | None = None,
    score: float | None = None,
    *,
    model: Mapping[str, Any] | None = None,
    average: Mapping[str, Any] | None = None,
    **how: Any,
) -> Checkpoint:
    """Take a snapshot, write it, let go of it."""
    files = {"model": weights() if model is None else model, **({"average": average} if average else {})}
    snapshot = Snapshots().take(files, STATE if state is None else state)
    try:
        return checkpoints.write(snapshot, epoch, step, score, **how)
    finally:
        snapshot.release()


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return {path.name for path in folder.iterdir()}


def damage(checkpoint: Checkpoint, name: str = "model.safetensors") -> None:
    """Flip a bit of a file."""
    path = checkpoint.path / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def forge(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> None:
    """Change values of the manifest as an attacker would, its own hash included."""
    path = checkpoint.path / "manifest.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**values, "sha256": seal(values)}))


def forge_file(checkpoint: Checkpoint, name: str, content: bytes) -> None:
    """Put other content under a name of the checkpoint, with a hash that fits."""
    (checkpoint.path / name).write_bytes(content)
    files = json.loads((checkpoint.path / "manifest.json").read_text())["files"]
    forge(checkpoint, {"files": {**files, name: {"sha256": hashlib.sha256(content).hexdigest()}}})


def equal(ours: Any, theirs: Any) -> bool:
    """Whether two states are the same: types, order of keys, and tensors to the bit."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        same = ours.dtype == theirs.dtype and ours.shape == theirs.shape
        return same and _bits(ours) == _bits(theirs)
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(equal(*pair) for pair in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return ours.keys() == theirs.keys() and all(equal(ours[name], theirs[name]) for name in ours)


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
