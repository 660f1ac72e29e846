"""Layers for the columns of a table."""

# B batch · F columns · K of them codes of categories, the last ones · D width of all their vectors

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.errors import ModelError


class CodesError(ModelError):
    """A layer would take codes of categories for numbers."""


def of_codes(name: str, where: str) -> CodesError:
    """The error of the layer of that name."""
    what = f"{name} would take codes of categories for numbers"
    return CodesError(where, what, 'Add a ColumnEmbedding above it, or set categories = "one-hot" in data.options.')


class ColumnEmbedding(nn.Module):
    """Gives each category of a table's columns a vector that is learned (Guo, Berkhahn, Entity Embeddings, 2016).

    The last columns are codes of categories, as `categories = "embedding"` makes them; those before pass through.

    Args:
        cardinalities: how many codes each of those columns has; code 0, of an unknown category, begins as zeros
        embedding_dim: width of the vectors; 0 lets it follow from each column's codes: 1.6 · codes^0.56, at most 600
    """

    takes_codes = True

    def __init__(self, cardinalities: tuple[int, ...], embedding_dim: int = 0) -> None:
        super().__init__()
        widths = [embedding_dim or min(600, max(1, round(1.6 * codes**0.56))) for codes in cardinalities]
        tables = [nn.Embedding(codes, width) for codes, width in zip(cardinalities, widths, strict=True)]
        with torch.no_grad():
            for table in tables:
                table.weight[0].zero_()
        self.tables = nn.ModuleList(tables)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, F) → (B, F - K + D)."""
        numeric = inputs.shape[1] - len(self.tables)
        codes = inputs[:, numeric:].long()  # (B, K)
        vectors = [table(codes[:, column]) for column, table in enumerate(self.tables)]
        return torch.cat([inputs[:, :numeric], *vectors], 1)
