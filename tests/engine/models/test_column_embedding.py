"""The layer that gives categories vectors which are learned."""

from __future__ import annotations

import pytest
import torch

from engine import catalog
from engine.models.columns import ColumnEmbedding
from engine.models.layers import build_chain, trace
from engine.models.source import model_code
from engine.models.traces import Flow
from engine.recipe import Layer

CODED = Flow((4,), codes=(3, 6))
LAYERS = [Layer.model_validate({"name": "ColumnEmbedding", "embedding_dim": 5})]


def test_numbers_pass_and_codes_become_vectors() -> None:
    layer = ColumnEmbedding((3, 6), 5)
    rows = torch.tensor([[0.5, -1.0, 2.0, 4.0], [7.0, 8.0, 0.0, 4.0]])
    out = layer(rows)
    assert out.shape == (2, 12)
    assert torch.equal(out[:, :2], rows[:, :2])
    assert torch.equal(out[0, 7:], out[1, 7:])  # the same category
    assert not out[1, 2:7].any()  # an unknown one begins as zeros
    assert out[0, 2:7].any()


def test_only_vectors_that_were_looked_up_are_learned() -> None:
    layer = ColumnEmbedding((3,), 2)
    layer(torch.tensor([[2.0]])).sum().backward()
    gradient = next(layer.parameters()).grad
    assert gradient is not None
    assert gradient.tolist() == [[0, 0], [0, 0], [1, 1]]


def test_a_width_that_is_left_open_follows_from_how_many_codes_there_are() -> None:
    with torch.device("meta"):
        layer = ColumnEmbedding((2, 10, 1000, 10**6))
    widths = [table.embedding_dim for table in layer.tables]  # type: ignore[union-attr]
    assert widths == [2, 6, 77, 600]


def test_cardinalities_follow_from_the_data() -> None:
    assert catalog.layers()["ColumnEmbedding"].parameter("cardinalities").inferred  # type: ignore[union-attr]
    row = trace(LAYERS, CODED, {})[0]
    assert (row.error, row.output, row.parameters) == (None, (12,), 5 * 9)
    assert build_chain(LAYERS, CODED, {})(torch.zeros(3, 4)).shape == (3, 12)


@pytest.mark.parametrize(
    ("flow", "given", "said"),
    [
        (Flow((4,)), {}, "none reach it"),
        (CODED, {"cardinalities": [3, 5]}, r"is \[3, 5\], the data has \[3, 6\]"),
    ],
)
def test_cardinalities_that_are_not_the_datas_are_refused(flow: Flow, given: dict[str, object], said: str) -> None:
    layer = Layer.model_validate({"name": "ColumnEmbedding", **given})
    error = trace([layer], flow, {})[0].error
    assert error is not None
    with pytest.raises(type(error), match=said):
        raise error


def test_codes_are_not_joined_to_numbers() -> None:
    """The twin: each branch may have vectors made of them."""
    vectors = {"name": "ColumnEmbedding", "embedding_dim": 5}
    for branch, fits in (({"name": "Identity"}, False), (vectors, True)):
        layer = Layer.model_validate({"name": "Parallel", "layers": [vectors, branch]})
        row = trace([layer], CODED, {})[0]
        assert (row.error is None) == fits
        assert row.output == ((24,) if fits else None)


def test_its_code_is_written_with_the_sizes_filled_in() -> None:
    code = model_code(LAYERS, CODED, {})
    assert code.needs == {"ColumnEmbedding"}
    assert any("ColumnEmbedding((3, 6), embedding_dim=5)" in line for line in code.lines)
