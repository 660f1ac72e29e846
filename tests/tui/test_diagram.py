"""The drawing of a model: blocks, the shapes between them, branches side by side, shortcuts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from textual.widgets import Static

from engine.errors import ModelError
from engine.models.layers import trace
from engine.models.rows import LayerRow
from engine.recipe import Layer
from tests.tui.studio_driver import studio
from tui.charts.diagram import diagram

SIZES = {"classes": 10}


def layer(name: str, *inner: Layer, **parameters: Any) -> Layer:
    return Layer.model_validate({"name": name, **parameters, "layers": inner})


def drawn(*layers: Layer, shape: tuple[int, ...] = (3, 8, 8)) -> str:
    return "\n".join(line.rstrip() for line in diagram(trace(layers, shape, SIZES)))


def test_layers_in_a_row_have_the_shapes_on_their_edges() -> None:
    assert drawn(layer("Flatten"), layer("Linear", out_features="classes")) == "\n".join(
        (
            "         │ 3×8×8",
            "    ┃ Flatten ┃",
            "         │ 192",
            "┃ Linear classes ┃",
            "         │ 10",
        )
    )


def test_a_shortcut_runs_beside_the_layers_and_is_added_to_them() -> None:
    assert drawn(layer("Residual", layer("ReLU"), layer("Tanh"))) == "\n".join(
        (
            "      │ 3×8×8",
            "╭ Residual ─────╮",
            "│     ├───────╮ │",
            "│ ┃ ReLU ┃    │ │",
            "│     │ 3×8×8 │ │",
            "│ ┃ Tanh ┃    │ │",
            "│     ⊕───────╯ │",
            "╰─────┬─────────╯",
            "      │ 3×8×8",
        )
    )


def test_branches_stand_side_by_side_between_one_edge_and_the_next() -> None:
    lines = drawn(layer("Parallel", layer("ReLU"), layer("Tanh"), layer("GELU"))).split("\n")
    assert [line for line in lines if all(name in line for name in ("ReLU", "Tanh", "GELU"))], lines
    assert lines[-1].endswith("9×8×8")
    split, joined = (next(line for line in lines if corner in line[2:-2]) for corner in ("╮", "╯"))
    assert split.index("╭", 2) == joined.index("╰", 2)


def test_a_layer_at_fault_is_marked_and_what_follows_has_no_shape() -> None:
    text = drawn(layer("Flatten"), layer("Conv2d", out_channels=3, kernel_size=3), layer("ReLU"))
    assert "✗ Conv2d" in text
    assert text.endswith("│ –")


LEAVES = st.sampled_from(["ReLU", "Tanh", "Flatten", "BatchNorm2d", "Linear"]).map(
    lambda name: layer(name, **({"out_features": 3} if name == "Linear" else {}))
)
BLOCKS = ["Sequential", "Residual", "Parallel", "Repeat"]
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda name, members: layer(name, *members, **({"times": 2} if name == "Repeat" else {})),
        st.sampled_from(BLOCKS),
        st.lists(inner, min_size=0, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=4))
def test_any_model_is_drawn_with_lines_of_one_width_and_every_layer_in_it(layers: list[Layer]) -> None:
    rows = trace(layers, (3, 8, 8), SIZES)
    lines = diagram(rows)
    assert len({len(line) for line in lines}) == 1
    text = "\n".join(lines)
    assert all(text.count(row.name) >= sum(other.name == row.name for other in rows) for row in rows)


def test_a_model_that_can_not_be_made_is_one_block() -> None:
    rows = [LayerRow("net.py:Net", "", (3, 8, 8), None, 0, ModelError("model.python", "fails"))]
    assert [line.strip() for line in diagram(rows)] == ["┃ ✗ net.py:Net ┃"]


async def test_the_drawing_opens_from_the_model_pane_and_closes(tmp_path: Path) -> None:
    async with studio(tmp_path) as opened:
        await opened.press("2", "g")
        await opened.until(lambda: opened.app.screen.query("#diagram"), "the drawing")
        assert "┃ Linear 128 ┃" in str(opened.app.screen.query_one("#diagram", Static).content)
        await opened.press("escape")
        assert opened.app.screen is opened.screen
