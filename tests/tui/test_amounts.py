"""Large numbers as a person reads them."""

from __future__ import annotations

import pytest

from tui.widgets.amounts import bytes_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (162, "162 B"), (1620, "1.62 kB"), (999_700, "1 MB"), (438_000, "438 kB"), (2.6e9, "2.6 GB"),
     (3.18e12, "3.18 TB")],
)  # fmt: skip
def test_an_amount_of_memory_has_the_unit_that_leaves_few_digits(count: float, text: str) -> None:
    assert bytes_text(count) == text
