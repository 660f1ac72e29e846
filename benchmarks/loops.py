"""Whole training loops over the same files: torch-tui, loops written by hand, and what else people train with.

    python benchmarks/loops.py [W1 W2 W3 W4] [--rounds 5] [--contestants NAME… | --all] [--steps N] [--threads N]
    python benchmarks/loops.py --device cuda [--precision bf16]

Without names: the tutorials' loop, the hand-tuned loop and torch-tui. Each contestant is a process of its own, a short
script in benchmarks/contestants that trains as the documentation of its framework has it. They take turns; each round
has another seed, the same for all. What is timed is training alone: no start, no validation. `make bench-frameworks`
installs what others have written; they race on the CPU alone. On a GPU the targets are printed below the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.environments import PACKAGES, installed, python_of
from benchmarks.made_data import write_cifar, write_mnist
from benchmarks.works import DEVICES, PRECISIONS, WORKS, Work
from engine.start import own_environment

_ROOT = Path(__file__).parent.parent
_PATIENCE_S = 900


@dataclass(frozen=True)
class Contestant:
    """A script of benchmarks/contestants. `threads` are torch's where it does not choose for itself.

    `channels_last`: pictures are laid out as N×H×W×C, by `training.channels_last` of a recipe.
    """

    script: str
    threads: int | None = None
    channels_last: bool = False

    @property
    def python(self) -> Path:
        return python_of(self.script) if self.script in PACKAGES else Path(sys.executable)

    @property
    def installed(self) -> bool:
        return self.script not in PACKAGES or installed(self.script)


CONTESTANTS = {
    "tutorial": Contestant("tutorial"),
    "tuned": Contestant("tuned"),
    "tuned-1-thread": Contestant("tuned", threads=1),
    "torch-tui": Contestant("torch_tui"),
    "torch-tui-studio": Contestant("torch_tui_studio"),
    "tuned-nhwc": Contestant("tuned", channels_last=True),
    "torch-tui-nhwc": Contestant("torch_tui", channels_last=True),
    **{name: Contestant(name) for name in PACKAGES},
}
_BY_HAND = ("tutorial", "tuned", "tuned-1-thread", "torch-tui", "tuned-nhwc", "torch-tui-nhwc")
_OF_CONVOLUTIONS = ("W2", "W3")  # elsewhere the layout of pictures changes nothing


# (work, precision) → times the speed of another that torch-tui is to have on a GPU
_TARGETS = {("W1", "fp32"): ("tutorial", 20.0), ("W3", "bf16"): ("tuned", 0.9)}


class FailedError(Exception):
    """A contestant that did not come to its end."""


@dataclass
class Results:
    """Of one contestant in one work, by round."""

    speeds: dict[int, float] = field(default_factory=dict)
    accuracies: dict[int, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    trouble: str = ""

    def ratio(self, other: Results | None) -> float | None:
        """How many times as fast as another: the median over the rounds that both have run."""
        both = self.speeds.keys() & other.speeds.keys() if other else ()
        ratios = [self.speeds[number] / other.speeds[number] for number in both] if other else []
        return statistics.median(ratios) if ratios else None

    def times(self, other: Results | None) -> str:
        """The ratio in a table."""
        ratio = self.ratio(other)
        return "–" if ratio is None else f"{ratio:.2f}×"


def script_of_ours(contestant: Contestant) -> bool:
    """Whether it is no framework: those are raced as their own introductions have them, on the CPU in fp32."""
    return contestant.script not in PACKAGES


def trained(contestant: Contestant, work: str, root: Path, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """What a contestant has printed. Raises FailedError."""
    ours = contestant.script.startswith("torch_tui")  # whose command sets its environment; a script has a plain one
    environment = {**os.environ, **(own_environment(os.environ) if ours else {})}
    if chosen.device == "cpu":  # no contestant sees a GPU
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if threads := chosen.threads or contestant.threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    module = f"benchmarks.contestants.{contestant.script}"
    command = [str(contestant.python), "-m", module, work, str(root), "--seed", str(seed)]
    command += ["--epochs", str(chosen.epochs), "--workers", str(chosen.workers)]
    command += ["--steps", str(chosen.steps)] if chosen.steps else []
    if script_of_ours(contestant):
        command += ["--device", chosen.device, "--precision", chosen.precision]
        command += ["--channels-last"] if contestant.channels_last else []
    try:
        done = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.CalledProcessError as error:
        said = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        raise FailedError(said[-1] if said else f"exit status {error.returncode}") from error
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"did not finish within {_PATIENCE_S} s") from error
    except (IndexError, ValueError) as error:
        raise FailedError("printed no result") from error


def race(work: str, names: list[str], root: Path, chosen: argparse.Namespace) -> dict[str, Results]:
    """All rounds of a work. Who fails once is left out of the rounds that follow."""
    results = {name: Results() for name in names}
    for number in range(chosen.rounds):
        for name in names:
            result = results[name]
            if result.trouble:
                continue
            try:
                told = trained(CONTESTANTS[name], work, root, number, chosen)
            except FailedError as error:
                result.trouble = str(error)
                print(f"  {work} round {number + 1}  {name:18} failed: {error}", file=sys.stderr, flush=True)
                continue
            speed, accuracy = float(told["samples_per_second"]), float(told["accuracy"])
            result.speeds[number], result.accuracies[number] = speed, accuracy
            result.versions |= told["versions"]
            said = f"{speed:10,.0f}/s  {told['threads']} threads  accuracy {accuracy:.4f}"
            print(f"  {work} round {number + 1}  {name:18}{said}", file=sys.stderr, flush=True)
    return results


def print_table(work: Work, results: dict[str, Results], chosen: argparse.Namespace) -> None:
    """Medians, ratios of the same round, and what was learnt."""
    steps = chosen.steps or work.steps
    epochs = f"{chosen.epochs} × " if chosen.epochs > 1 else ""
    where = "" if chosen.device == "cpu" else f" on {chosen.device} in {chosen.precision}"
    print(f"\n{work.name}{where}: {epochs}{steps} steps of {work.batch} samples, {chosen.rounds} rounds", flush=True)
    print(f"{'':18}{'samples/s':>11}{'/ tutorial':>12}{'/ tuned':>10}{'accuracy':>12}")
    for name, result in results.items():
        if not result.speeds:
            print(f"{name:18}  failed: {result.trouble}")
            continue
        speed, accuracy = statistics.median(result.speeds.values()), statistics.fmean(result.accuracies.values())
        tutorial, tuned = (result.times(results.get(other)) for other in ("tutorial", "tuned"))
        failed = f"  then failed: {result.trouble}" if result.trouble else ""
        print(f"{name:18}{speed:11,.0f}{tutorial:>12}{tuned:>10}{accuracy:12.4f}{failed}")
    print(learning(results))


def target(work: str, results: dict[str, Results], precision: str) -> str:
    """Whether torch-tui is as fast on a GPU as it is to be; "" where nothing is wanted or measured."""
    if (work, precision) not in _TARGETS or "torch-tui" not in results:
        return ""
    other, wanted = _TARGETS[work, precision]
    ratio = results["torch-tui"].ratio(results.get(other))
    if ratio is None:
        return ""
    return f"{work} in {precision}: {ratio:.2f}× {other}, wanted {wanted:g}×: {'met' if ratio >= wanted else 'missed'}"


def learning(results: dict[str, Results]) -> str:
    """Whether all have learnt as well as the first, within the noise that the seeds make."""
    several = {name: list(each.accuracies.values()) for name, each in results.items() if len(each.accuracies) > 1}
    if len(several) < 2:
        return "accuracy: of one round, or of one contestant; nothing is said of noise"
    noise = statistics.fmean(statistics.variance(values) for values in several.values()) ** 0.5
    first, *others = several
    apart = {}
    for name in others:
        error = noise * (1 / len(several[first]) + 1 / len(several[name])) ** 0.5
        difference = statistics.fmean(several[name]) - statistics.fmean(several[first])
        if abs(difference) > 3 * error:
            apart[name] = difference
    if not apart:
        return f"accuracy: all learn alike; a seed makes ± {noise:.4f}"
    told = ", ".join(f"{name} {difference:+.4f}" for name, difference in apart.items())
    return f"accuracy: a seed makes ± {noise:.4f}; further from {first} than three standard errors: {told}"


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"{' '.join(WORKS)}; all, if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--contestants", nargs="+", metavar="NAME", choices=CONTESTANTS, default=list(_BY_HAND))
    who.add_argument("--all", action="store_true", help="every contestant that is installed")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of an epoch; else as many as the work says")
    parser.add_argument("--threads", type=int, help="of every contestant; else each has torch's or its own choice")
    parser.add_argument("--workers", type=int, default=0, help="of each DataLoader; 0 is torch's own choice")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="bf16 is mixed")
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no NVIDIA GPU here")
    works = chosen.works or list(WORKS)
    if unknown := set(works) - set(WORKS):
        parser.error(f"no such work: {', '.join(sorted(unknown))}. There are: {' '.join(WORKS)}")
    names = list(CONTESTANTS) if chosen.all else chosen.contestants
    if (chosen.device, chosen.precision) != ("cpu", "fp32"):
        names = [name for name in names if script_of_ours(CONTESTANTS[name])]
    missing = [name for name in names if not CONTESTANTS[name].installed]
    names = [name for name in names if name not in missing]
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_mnist(Path(folder))
        write_cifar(Path(folder))
        for work in works:
            meant = [name for name in names if work in _OF_CONVOLUTIONS or not CONTESTANTS[name].channels_last]
            results = race(work, meant, Path(folder), chosen)
            print_table(WORKS[work], results, chosen)
            if chosen.device == "cuda" and (said := target(work, results, chosen.precision)):
                print(said)
            for result in results.values():
                versions |= result.versions
    print(f"\n{', '.join(f'{name} {version}' for name, version in versions.items())}; {os.cpu_count()} cores")
    if missing:
        print(f"not installed: {', '.join(missing)}. `make bench-frameworks` installs them, apart from the project.")


if __name__ == "__main__":
    main()
