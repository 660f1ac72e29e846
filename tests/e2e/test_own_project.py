"""A project of a person's own, trained by the command in processes of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# Modules of all three names that torch-tui has itself; dataset and model both need them.
PROJECT = {
    "recipe.toml": """
        task = "classification"
        data = { python = "data.py:Moons", num_workers = 2 }
        model = { python = "net.py:make", options = { width = 8 } }
        training = { epochs = 2 }
    """,
    "presets.py": "WIDTH = 16\n",
    "tui/__init__.py": "",
    "tui/points.py": "import torch\n\ndef points(count): return torch.linspace(-1, 1, count * 2).reshape(count, 2)\n",
    "engine.py": "from torch import nn\nimport presets\n\n"
    "class Block(nn.Linear):\n"
    "    def forward(self, x):\n"
    "        return super().forward(x).relu()\n",
    "net.py": "from torch import nn\nimport engine\n\n"
    "log = []\n\n"
    "def make(shape, outputs, width=engine.presets.WIDTH):\n"
    "    log.append(open('log.txt', 'a'))\n"
    "    log[-1].write('made ')\n"
    "    return nn.Sequential(engine.Block(shape[0], width), nn.Linear(width, outputs))\n",
    "data.py": "from tui import points\nimport engine\n\n"
    "class Moons:\n"
    "    classes = ('left', 'right')\n"
    "    def __init__(self): self.x, self.block = points.points(200), engine.Block(2, 2)\n"
    "    def __len__(self): return len(self.x)\n"
    "    def __getitem__(self, i): return self.x[i], int(self.x[i, 0] > 0)\n",
}


def written(folder: Path, files: dict[str, str]) -> Path:
    """The files in a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if name.endswith(".py") else "\n".join(map(str.strip, text.split("\n"))), "utf-8")
    return folder


def train(folder: Path, *how: str, path: tuple[Path, ...] = (REPOSITORY,)) -> subprocess.CompletedProcess[str]:
    """`python HOW train recipe.toml` in `folder`; by `-m`, Python puts that first in sys.path."""
    return subprocess.run(
        [sys.executable, *(how or ("-m", "torch_tui")), "train", "recipe.toml", "--runs", "runs"],
        cwd=folder, capture_output=True, text=True, timeout=150, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_project_with_our_names_trains_as_model_and_dataset_with_workers(tmp_path: Path) -> None:
    ran = train(written(tmp_path, PROJECT))

    assert ran.returncode == 0, ran.stderr
    assert "epoch 2/2" in ran.stdout
    assert "made" in (tmp_path / "log.txt").read_text(), "what was left to the interpreter's end is written"


def test_the_installed_command_looks_for_no_module_in_the_folder_one_works_in(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "torch-tui"
    files = {**PROJECT, "queue.py": "raise RuntimeError('not for torch')"}
    folder = written(tmp_path / "mine", files)
    command.parent.mkdir()
    command.write_text("from torch_tui import main\nif __name__ == '__main__':\n    main()\n", encoding="utf-8")

    ran = train(folder, str(command))

    assert ran.returncode == 0, ran.stderr
    assert "not for torch" not in ran.stderr


def test_so_it_does_with_its_folder_in_the_python_path(tmp_path: Path) -> None:
    ran = train(written(tmp_path, PROJECT), path=(tmp_path, REPOSITORY))

    assert ran.returncode == 0, ran.stderr


def test_without_the_door_it_would_find_theirs_in_place_of_ours(tmp_path: Path) -> None:
    ran = train(written(tmp_path, PROJECT), "-m", "tui.main")

    assert ran.returncode != 0
    assert "No module named" in ran.stderr


def test_a_failure_in_a_sibling_names_its_line_and_the_traceback_is_in_the_log(tmp_path: Path) -> None:
    forward = "    def forward(self, x):\n"
    broken = PROJECT["engine.py"].replace(forward, forward + "        assert not x.any(), 'too many'\n")

    alone = PROJECT["recipe.toml"].replace("num_workers = 2", "num_workers = 0")  # it fails before a worker has begun

    ran = train(written(tmp_path, {**PROJECT, "recipe.toml": alone, "engine.py": broken}))

    assert ran.returncode == 1
    assert ran.stderr == "error: engine.py:6: AssertionError: too many. The traceback is in the run's log.txt.\n"
    log = next((tmp_path / "runs").glob("*/log.txt")).read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in log
    assert f'{tmp_path}/engine.py", line 6, in forward' in log


def test_the_project_in_the_documentation_trains(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8").partition("## A project of your own")[2]
    files = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", text, re.DOTALL))
    assert sorted(files) == ["data.py", "engine.py", "net.py", "recipe.toml"]

    ran = train(written(tmp_path, files))

    assert ran.returncode == 0, ran.stderr
    accuracy = float(re.findall(r"test +accuracy ([\d.]+)", ran.stdout)[-1])
    assert accuracy > 0.9
