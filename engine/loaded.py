"""What torch imports by itself as soon as a model's shapes are followed or an optimizer is made, imported ahead."""

from __future__ import annotations

import contextlib


def load_the_rest() -> None:
    """1.1 s, and with the garbage collector at work half a second more: so within `engine.start.importing`."""
    with contextlib.suppress(ImportError):  # a torch that has no such module does not import it either
        import torch._dynamo
        import torch.utils.flop_counter  # noqa: F401
