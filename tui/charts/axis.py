"""Limits that rarely move and ticks that read well. Pure numbers: what draws them is `frame.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LARGEST = 1e300  # a span of twice this still fits in a float
_FINEST = 1e-4  # of the value: a narrower axis would need more digits than anyone reads
_SLACK = 1e-9  # of a step: 3 * 0.1 is a multiple of 0.1 although it is 0.30000000000000004
_ROOMY = 0.4  # limits are kept until the data fills less than this much of them
_LADDER = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))  # from which value on; "k" begins at 10k


@dataclass(frozen=True)
class Limits:
    """Both ends of an axis, `low < high`; on a logarithmic axis they are powers of ten."""

    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low

    def fits(self, low: float, high: float) -> bool:
        """Whether data from `low` to `high` is inside and not lost in the middle."""
        return self.low <= low and high <= self.high and high - low >= _ROOMY * self.span


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where (0 is the low end, 1 the high end) and what is written there."""

    position: float
    label: str


def y_limits(low: float, high: float, previous: Limits | None = None) -> Limits:
    """Round limits around the data; `previous` again while it still fits, so that a curve does not jump about."""
    if previous is not None and previous.fits(low, high):
        return previous
    low, high = _widen(low, high)
    step = _nice_step((high - low) / 6)
    return Limits(math.floor(low / step + _SLACK) * step, math.ceil(high / step - _SLACK) * step)


def log_limits(low: float, high: float, previous: Limits | None = None) -> Limits:
    """As `y_limits` on a logarithmic axis; data and limits are powers of ten."""
    if previous is not None and previous.fits(low, high):
        return previous
    least, most = (10.0 ** min(max(power, -300.0), 300.0) for power in (low, high))
    if least < most < 2 * least:
        close = y_limits(least, most)  # less than an octave: 1, 2, 5 would be too coarse
        return Limits(math.log10(close.low), math.log10(close.high))
    if most <= least * (1 + _SLACK):
        least, most = least / 2, most * 2
    return Limits(math.log10(_one_two_five(least, down=True)), math.log10(_one_two_five(most, down=False)))


def x_limits(low: float, high: float, previous: Limits | None = None, *, end: float | None = None) -> Limits:
    """From the first step (0 where that is near) to `end` if it is known, else to a bound that grows in jumps of
    a quarter, so that a growing line redraws the axis a few times and not at every point."""
    low, high = _clip(low), _clip(high)
    if end is not None and math.isfinite(end) and _clip(end) > high:
        return Limits(_start(low, _clip(end)), _clip(end))
    if previous is not None and previous.fits(low, high):
        return previous
    if low == high and low >= 0:
        low = 0.0
    low, high = _widen(low, high)
    low = _start(low, high)
    power = 10.0 ** math.floor(math.log10(high - low))
    # The last rung is a tenth too far up where log10 rounded down.
    rung = next((rung for rung in _LADDER if low + rung * power >= high), 10.0)
    return Limits(low, max(high, low + rung * power))


def linear_ticks(limits: Limits, most: int) -> list[Tick]:
    """Between two and `most` ticks at multiples of 1, 2 or 5, all with the decimals that tell them apart."""
    values = _multiples(limits.low, limits.high, most)
    positions = [(value - limits.low) / limits.span for value in values]
    return [Tick(position, label) for position, label in zip(positions, number_labels(values), strict=True)]


def log_ticks(limits: Limits, most: int) -> list[Tick]:
    """Ticks for limits in powers of ten: every decade, fewer where they crowd, 1-2-5 where there are few."""
    if limits.span < 0.5:
        values = _multiples(10.0**limits.low, 10.0**limits.high, most)
        labels = number_labels(values)
    else:
        values = _decades(limits, most)
        labels = [number_labels([value])[0] for value in values]
    positions = [(math.log10(value) - limits.low) / limits.span for value in values]
    return [Tick(position, label) for position, label in zip(positions, labels, strict=True)]


def number_labels(values: Sequence[float]) -> list[str]:
    """The values of evenly spaced ticks as short text: `0.25`, `2500`, `12.5k`, `1e-5`."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0:
        return ["0"] * len(values)
    step = abs(values[1] - values[0]) if len(values) > 1 else largest
    if largest < 1e-3 or largest >= 1e15:
        digits = max(0, _exponent(largest) - _exponent(step))
        if len({_scientific(value, digits) for value in values}) < len(values):
            digits += 1  # 8.1945e29 and 8.1955e29 are 0.001 apart and would both be 8.195e29
        return ["0" if value == 0 else _scientific(value, digits) for value in values]
    unit, suffix = next(((unit, suffix) for unit, suffix in _UNITS if largest >= unit), (1.0, ""))
    unit = 1e3 if suffix == "k" else unit
    decimals = max(0, -_exponent(step / unit))
    if len({f"{value / unit:.{decimals}f}" for value in values}) < len(values):
        decimals += 1  # so would 99.995 and 100.005 be 100.00
    return ["0" if value == 0 else f"{value / unit:.{decimals}f}{suffix}" for value in values]


def value_label(value: float) -> str:
    """One value with four significant digits: `0.2500`, `98.12`, `12.35k`, `1.000e-5`."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size != 0 and (size < 1e-3 or size >= 1e15):
        return _scientific(value, 3)
    unit, suffix = next(((unit, suffix) for unit, suffix in _UNITS if size >= unit), (1.0, ""))
    unit = 1e3 if suffix == "k" else unit
    return f"{value / unit:#.4g}".rstrip(".") + suffix if size else "0"


def _clip(value: float) -> float:
    return min(max(value, -_LARGEST), _LARGEST)


def _widen(low: float, high: float) -> tuple[float, float]:
    """The same range, kept inside what floats and labels can tell apart."""
    low, high = _clip(low), _clip(high)
    size = max(abs(low), abs(high))
    if size < 1 / _LARGEST:
        return 0.0, 1.0
    if low == high:
        return low - size / 2, high + size / 2
    missing = max(0.0, _FINEST * size - (high - low)) / 2
    return low - missing, high + missing


def _start(low: float, high: float) -> float:
    """Where an axis of steps begins: at 0 if the first step is in the first half, else just below it."""
    if 0 <= low <= high / 2:
        return 0.0
    step = _nice_step((high - low) / 4)
    return math.floor(low / step + _SLACK) * step


def _nice_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, … that is at least `least`."""
    return _one_two_five(least, down=False)


def _one_two_five(value: float, *, down: bool) -> float:
    """The nearest of …, 0.5, 1, 2, 5, 10, … on one side of `value`."""
    exponent = _exponent(value)
    rungs = [_power(exponent + shift) * rung for shift in (-1, 0, 1) for rung in (1, 2, 5)]
    if down:
        return max(rung for rung in rungs if rung <= value * (1 + _SLACK))
    return min(rung for rung in rungs if rung >= value * (1 - _SLACK))


def _multiples(low: float, high: float, most: int) -> list[float]:
    """Multiples of a nice step from `low` to `high`: two at least, `most` at most."""
    step = _nice_step((high - low) / max(1, most - 1))
    values: list[float] = []
    while len(values) < 2:
        first, last = math.ceil(low / step - _SLACK), math.floor(high / step + _SLACK)
        values = [index * step for index in range(first, last + 1)]
        step = _one_two_five(0.6 * step, down=True)
    return values if len(values) <= most else [values[0], values[-1]]


def _decades(limits: Limits, most: int) -> list[float]:
    """1, 2 and 5 of every decade inside, or as many whole decades as there is room for; two at least."""
    decades = range(math.floor(limits.low), math.ceil(limits.high) + 1)
    fine = [rung * 10.0**decade for decade in decades for rung in (1, 2, 5)]
    fine = [value for value in fine if _inside(math.log10(value), limits)]
    if len(fine) <= most:
        return fine
    whole = [decade for decade in decades if _inside(decade, limits)]
    stride = max(1, math.ceil(len(whole) / most))
    spaced = [10.0**decade for decade in whole if decade % stride == 0]
    return spaced if len(spaced) > 1 else [fine[0], fine[-1]]


def _inside(value: float, limits: Limits) -> bool:
    return limits.low - _SLACK <= value <= limits.high + _SLACK


def _exponent(value: float) -> int:
    """The power of ten a positive value begins with; 0.001 / 1 and 1000 * 0.1 land where they are meant to."""
    return math.floor(math.log10(value) + _SLACK)


def _power(exponent: int) -> float:
    return 10.0**exponent if exponent >= 0 else 1 / 10.0**-exponent  # 1 / 1000 is the float nearest 0.001


def _scientific(value: float, digits: int) -> str:
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
