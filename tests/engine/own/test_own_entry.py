"""What a person's function or class takes, told from its signature and docstring for a form."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import python_file

from engine.catalog import Entry
from engine.errors import RecipeError
from engine.models.build import OFFERED
from engine.python_file.entry import own_entry

CLASS = '''
from __future__ import annotations
from collections.abc import Callable
from torch import nn

class Net(nn.Module):
    """A net of blocks.

    Args:
        width: units of each layer
    """

    def __init__(self, shape, outputs, depth: int, width: int = 16, act: Callable = print, kind=nn.ReLU, device="cpu"):
        """Build it.

        Args:
            depth: how many layers there are
        """
        super().__init__()
'''


def entry(folder: Path, text: str, name: str) -> Entry:
    return own_entry(f"{python_file(folder, text)}:{name}", "model.python", OFFERED)


def test_a_class_is_offered_without_what_it_is_given_and_what_no_recipe_can_say(tmp_path: Path) -> None:
    net = entry(tmp_path, CLASS, "Net")

    assert [each.name for each in net.parameters] == ["depth", "width", "device"]
    assert [each.required for each in net.parameters] == [True, False, False]
    assert [each.doc for each in net.parameters][:2] == ["how many layers there are", "units of each layer"]
    assert [each.type_text for each in net.parameters][:2] == ["int", "int"]
    assert net.summary == "A net of blocks."


def test_what_is_typed_is_checked_by_the_annotation(tmp_path: Path) -> None:
    net = entry(tmp_path, CLASS, "Net")

    net.check({"depth": 2}, "model.options")
    with pytest.raises(RecipeError, match=r"model.options.width: 'wide' is not int. Try 16."):
        net.check({"depth": 2, "width": "wide"}, "model.options")


def test_a_function_is_offered_like_a_class(tmp_path: Path) -> None:
    made = entry(tmp_path, "def make(classes, width: float | None = None, **more):\n    'It makes.'", "make")

    assert [(each.name, each.default, each.type_text) for each in made.parameters] == [("width", None, "float or none")]
    assert made.summary == "It makes."


def test_a_class_without_a_word_is_not_described_by_the_one_it_derives_from(tmp_path: Path) -> None:
    assert entry(tmp_path, "from torch import nn\nclass Net(nn.Module): pass", "Net").doc == ""


def test_one_without_a_signature_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model.python: make has no signature"):
        entry(tmp_path, "class make:\n    __signature__ = 3", "make")
