"""Keys in turn: what comes in one piece, as over a slow line or pasted, goes where the key before it leads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from textual.events import Event

if TYPE_CHECKING:
    from textual.app import App
    from textual.worker import Worker

_TURNS = 64  # of the event loop; a dialog has the focus after 36, a field after 10; idle turns take 4 µs
_LOOK_S = 0.01
_PATIENCE_S = 1.0
_OPENS = ("dialog", "files", "use")
"""Groups of the workers that open dialogs, some after a thread has read what they show."""


class InTurn:
    """Holds keys back until what the key before has opened has the focus.

    Textual sends each key to what has the focus as it comes: enter and what is typed into the field that it opens go to
    the row, and from there on to the studio, where t begins a training. All of it is called by the event loop's thread.
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._waiting: deque[Event] = deque()
        self._released: Event | None = None
        self._admitted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._slow: WeakSet[Worker[Any]] = WeakSet()
        """Those that were waited for long enough."""

    def admit(self, event: Event) -> bool:
        """Whether it is this key's turn; if not, it is sent to the application once more as soon as it is."""
        if event is self._released:
            self._released = None
            self._admitted.set()
            return True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._release())
            return True
        self._waiting.append(event)
        return False

    async def _release(self) -> None:
        await self._opened()
        while self._waiting:
            self._admitted.clear()
            self._released = self._waiting.popleft()
            self._app.post_message(self._released)
            await self._admitted.wait()
            await self._opened()

    async def _opened(self) -> None:
        """Return when the key has been dealt with, and what it opens is there, or takes long."""
        await _turns()
        end = time.monotonic() + _PATIENCE_S
        while opening := self._opening():
            if time.monotonic() > end:
                self._slow.update(opening)
                return
            await asyncio.sleep(_LOOK_S)
            await _turns()

    def _opening(self) -> list[Worker[Any]]:
        """The workers that are about to open a dialog over the uppermost screen."""
        return [
            worker
            for worker in self._app.workers
            if worker.group in _OPENS
            and not worker.is_finished
            and worker.node.screen is self._app.screen
            and worker not in self._slow
        ]


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
