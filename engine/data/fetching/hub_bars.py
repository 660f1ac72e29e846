"""What Hugging Face's progress bars say, told as everything else here is."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from engine.data.fetching.telling import Fetched
from engine.data.samples import Progress


@contextlib.contextmanager
def hub_bars(progress: Progress) -> Iterator[None]:
    """Its bars tell `progress`, which may raise to cancel, instead of being drawn into the screen."""
    modules = [importlib.import_module(name) for name in ("datasets.utils.tqdm", "huggingface_hub.utils.tqdm")]
    shown = [module for module in modules if not module.are_progress_bars_disabled()]
    cancelled: list[BaseException] = []
    ours, log = threading.get_ident(), logging.getLogger("concurrent.futures")
    quiet = log.disabled

    def update(bar: Any, count: float | None = 1) -> None:
        bar.n = getattr(bar, "n", 0) + (count or 0)
        try:
            done = int(bar.n)
            progress(
                "Hugging Face",
                Fetched(done) if getattr(bar, "unit", "") == "B" else done,
                int(getattr(bar, "total", 0) or 0),
            )
        except BaseException as error:
            cancelled.append(error)
            if threading.get_ident() == ours:
                raise
            # Files come in threads of their own, in which nobody waits for an exception that is not an Exception.
            raise RuntimeError("cancelled") from error

    log.disabled = True  # else it prints what a thread raised
    for module in modules:
        module.tqdm.update = update
        module.disable_progress_bars()
    try:
        yield
    except Exception:
        if not cancelled:
            raise
    finally:
        log.disabled = quiet
        for module in modules:
            del module.tqdm.update
        for module in shown:
            module.enable_progress_bars()
    if cancelled:
        raise cancelled[0]
