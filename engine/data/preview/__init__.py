"""A look at a dataset before a step is run: what it holds, sample by sample, and what is wrong with it.

Everything that a screen draws comes as NumPy arrays and text, so that a screen computes nothing with tensors.
"""

from engine.data.preview.drawn import Box, Sample
from engine.data.preview.findings import Examination, Finding, findings
from engine.data.preview.fitting import Inside, before_after, fitting
from engine.data.preview.holding import Holding
from engine.data.preview.look import Preview, preview
from engine.data.preview.measure import Moments, measure, with_moments
from engine.data.preview.view import View

__all__ = [
    "Box",
    "Examination",
    "Finding",
    "Holding",
    "Inside",
    "Moments",
    "Preview",
    "Sample",
    "View",
    "before_after",
    "findings",
    "fitting",
    "measure",
    "preview",
    "with_moments",
]
