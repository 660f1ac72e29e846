"""What every dialog and every page over the studio has in common: it is left once."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen

Result = TypeVar("Result")


class Page(Screen[Result]):
    """A screen that is left once, and takes along what lies over it.

    Textual takes away the uppermost screen, whichever was left: enter pressed twice before the first was seen to, as
    over a slow line, took the studio away with the dialog, and nothing was left to press a key in.
    """

    async def on_screen_resume(self) -> None:
        """Let others have a turn: layouts for the size and for this would hold the studio up for 50 ms in one go."""
        await asyncio.sleep(0)

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Leave it with a result, unless it has been left."""
        if self not in self.app.screen_stack:
            return AwaitComplete()
        while not self.is_active:  # the palette of commands, or a question
            self.app.screen.dismiss()
        return super().dismiss(result)


class Dialog(ModalScreen[Result], Page[Result]):
    """A page that leaves the studio in sight."""
