"""What makes a start quick changes nothing of what is started."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engine import start


def ran(code: str) -> str:
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout


def test_numpy_is_loaded_at_its_first_use_and_not_before() -> None:
    said = ran("""
        import sys
        from engine.start import defer
        defer()
        import numpy as np
        import engine.runs.history, tui.charts.chart
        print("numpy._core" in sys.modules)
        print(np.arange(3).sum(), "numpy._core" in sys.modules)
        import numpy
        import numpy.typing
        print(numpy.ndarray is np.ndarray, np.typing is numpy.typing, isinstance(numpy.ones(2), np.ndarray))
    """)
    assert said.split() == ["False", "3", "True", "True", "True", "True"]


def test_threads_that_use_a_deferred_module_at_once_all_get_the_whole_of_it() -> None:
    said = ran("""
        import sys, threading
        from engine.start import defer
        defer()
        import numpy as np, psutil, tomlkit
        sys.setswitchinterval(1e-6)
        start, found = threading.Barrier(8), []
        def use():
            start.wait()
            found.append((np.arange(3).sum() == 3, psutil.Process().pid > 0, tomlkit.dumps({"a": 1})))
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(len(found))
    """)
    assert said.split() == ["8"]


def test_torch_takes_the_libraries_that_were_linked_ahead() -> None:
    said = ran("""
        from engine.start import before_screen, importing, link_torch, load_deferred
        before_screen()
        load_deferred()
        with importing():
            link_torch()
            import torch
        import numpy, gc
        print(torch.from_numpy(numpy.ones(3)).sum().item(), gc.isenabled(), gc.get_freeze_count() > 100_000)
    """)
    assert said.split() == ["3.0", "True", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are linked ahead on Linux alone")
def test_linking_leaves_python_free_to_work() -> None:
    """While `dlopen` runs, another thread can have the GIL: through ctypes.CDLL it could not."""
    said = ran("""
        import threading, time
        from engine.start import link_torch
        thread = threading.Thread(target=link_torch)
        thread.start()
        turns = 0
        while thread.is_alive():
            time.sleep(0.001)
            turns += 1
        with open("/proc/self/maps") as maps:
            print(turns > 20, "libtorch_cpu" in maps.read())
    """)
    assert said.split() == ["True", "True"]


def test_a_machine_without_torch_starts_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    for found in (None, tmp_path):  # there is no torch; there is none of its libraries
        monkeypatch.setattr(start, "_libraries", lambda found=found: found)
        start.link_torch()


def test_the_collector_is_back_after_an_import_that_failed() -> None:
    said = ran("""
        import gc
        from engine.start import importing
        try:
            with importing():
                assert not gc.isenabled()
                import there_is_no_such_module
        except ImportError:
            print(gc.isenabled())
    """)
    assert said.split() == ["True"]
