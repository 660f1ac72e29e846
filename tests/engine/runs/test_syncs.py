"""How often the disk is waited for: on a slow one each time is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COUNTING = """
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static int counted(const char *name, int file) {
    int count = open(getenv("SYNCS"), O_WRONLY | O_APPEND);
    (void)!write(count, ".", 1);
    close(count);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}
extern "C" int fsync(int file) { return counted("fsync", file); }
extern "C" int fdatasync(int file) { return counted("fdatasync", file); }
"""
MAKE = """
import sys
from pathlib import Path
from engine.runs import metrics
made, branch, facts = Path(sys.argv[1]), Path(sys.argv[2]), {"state": "stopped"}
metrics.make(made)
"""
COPY = f"{MAKE}metrics.copy_until(made, branch, 3, facts); assert metrics.read_facts(branch) == facts"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that counts the syncs of a process, sqlite's among them."""
    if sys.platform != "linux" or not shutil.which("g++"):
        pytest.skip("needs Linux and a compiler")
    built = tmp_path_factory.mktemp("syncs") / "counting.so"
    command = ["g++", "-x", "c++", "-shared", "-fPIC", "-o", str(built), "-", "-ldl"]
    subprocess.run(command, input=COUNTING, text=True, check=True)
    return built


def syncs(code: str, library: Path, folder: Path) -> int:
    count = folder / "count"
    count.touch()
    environment = {**os.environ, "LD_PRELOAD": str(library), "SYNCS": str(count)}
    subprocess.run(
        [sys.executable, "-c", code, folder / "made.sqlite", folder / "branch.sqlite"], env=environment, check=True
    )
    return count.stat().st_size


def test_a_new_file_of_metrics_is_synced_once(library: Path, tmp_path: Path) -> None:
    assert syncs(MAKE, library, tmp_path) == 1


def test_a_branch_has_its_metrics_and_facts_in_one_sync(library: Path, tmp_path: Path) -> None:
    assert syncs(COPY, library, tmp_path) == 2  # the other's is one
