"""An environment for each framework that torch-tui races against, in benchmarks/.environments.

    python benchmarks/environments.py [NAME…]

Each has the framework in the version that the extra `bench` of pyproject.toml asks for, and sees torch and torchvision
of the environment that this command runs in: all race on the same torch, which is not installed again. The project's
own environment is left as it is.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

_ROOT = Path(__file__).parent.parent
ENVIRONMENTS = Path(__file__).parent / ".environments"

PACKAGES = {
    "lightning": ("lightning",),
    "huggingface": ("transformers", "accelerate"),
    "keras": ("keras",),
    "fastai": ("fastai",),
    "ignite": ("pytorch-ignite",),
    "skorch": ("skorch",),
}


def python_of(name: str) -> Path:
    """The interpreter of a framework's environment, which may not be there."""
    return ENVIRONMENTS / name / "bin" / "python"


def installed(name: str) -> bool:
    """Whether a framework's installation came to its end."""
    return (ENVIRONMENTS / name / ".installed").is_file()


def install(name: str) -> None:
    """Make a framework's environment. Raises subprocess.CalledProcessError, or RuntimeError if it has another torch."""
    python, finished = python_of(name), ENVIRONMENTS / name / ".installed"
    finished.unlink(missing_ok=True)
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENTS / name)], check=True)
    own = _printed(python, "import sysconfig; print(sysconfig.get_path('purelib'))")
    # Comes after the environment's own packages. pip finds torch there, and leaves alone what is not the environment's.
    (Path(own) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *(_requirement(package) for package in PACKAGES[name])], check=True)
    where = "import torch; print(torch.__version__, torch.__file__)"
    theirs, ours = _printed(python, where), _printed(Path(sys.executable), where)
    if theirs != ours:
        raise RuntimeError(f"{name} has brought another torch: {theirs}, not {ours}")
    finished.touch()


def _requirement(package: str) -> str:
    """As pyproject.toml has it."""
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return next(line for line in extras["bench"] if re.split(r"[^\w.-]", line)[0] == package)


def _printed(python: Path, code: str) -> str:
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(PACKAGES))
    chosen = parser.parse_args().names or list(PACKAGES)
    if unknown := set(chosen) - set(PACKAGES):
        parser.error(f"no such framework: {', '.join(sorted(unknown))}. There are: {' '.join(PACKAGES)}")
    failed = False
    for name in chosen:
        if installed(name):
            print(f"{name:12} is there", flush=True)
            continue
        try:
            install(name)
            print(f"{name:12} installed", flush=True)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            failed = True
            print(f"{name:12} could not be installed: {error}", file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
