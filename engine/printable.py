"""What strangers' files say, made safe to print: a text of a dataset must not steer the terminal that shows it."""

from __future__ import annotations

import re

# What moves the cursor, colours, beeps, or turns the reading direction of what follows; and names of files that are no
# Unicode. Tabs and ends of lines stay, and so do marks that only join letters or emoji.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with a visible sign in the place of each control character: ␛ for an escape, else � at the worst.

    Most texts have none, and are given back as they are.
    """
    if text.isascii() and text.isprintable():  # quicker by far than looking for each
        return text
    return _STEERING.sub(_sign, text.replace("\r\n", "\n"))


def printable_line(text: str) -> str:
    """The same in one line, for names and labels: ends of lines and tabs become signs, too."""
    return printable(text).translate(_IN_A_LINE)


_IN_A_LINE = {ord("\n"): "␊", ord("\t"): "␉"}


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode has a picture of each
    return "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
