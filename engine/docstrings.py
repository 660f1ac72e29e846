"""torch's docstrings without the markup that a terminal can't show."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ARGUMENTS = re.compile(r"^(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ARGUMENT = re.compile(r"^\s{2,6}\*{0,2}(\w+)(?:\s*\([^\n]*?\))?\s*:\s?(.*)$")


def parameter_docs(doc: str) -> dict[str, str]:
    """Parameter name → text, from the `Args:` section of a torch docstring."""
    docs: dict[str, list[str]] = {}
    indent, current = 0, ""
    for block in _ARGUMENTS.split(doc)[1:]:
        for line in block.split("\n"):
            depth = len(line) - len(line.lstrip())
            if line.strip() and depth == 0:
                break
            found = _ARGUMENT.match(line)
            if found and (not indent or depth <= indent):
                indent, current = depth, found[1]
                docs.setdefault(current, []).append(found[2])
            elif current:
                docs[current].append(line.strip())
    return {name: readable(" ".join(" ".join(lines).split())) for name, lines in docs.items()}


_MARKUP: Iterable[tuple[str, str]] = (
    (r"(?ms)^[ \t]*\\begin\{((?!cases)\w+)\}.*?\\end\{\1\}", ""),  # algorithms set in LaTeX
    (r"(?m)^[ \t]*\.\. include::.*\n(?:[ \t]+:\w+:.*\n)*", ""),
    (r":math:`([^`]*)`", r"\1"),  # in which < is no link
    (r":(?:class|func|meth|attr|ref|mod|obj|paramref|doc):`~?([^`<]*?)(?:\s*<[^>]*>)?`", r"\1"),
    (r"(?m)^\.\. (?:image|_).*\n?(?:[ \t]+http.*)?$", ""),  # pictures, and the targets of links
    (r"(?i)\.\. (?:note|warning|math|code-block|versionadded|testcode|seealso)::?[ \t]*", ""),
    (r"``([^`]*)``", r"\1"),
    (r"`([^`<]+?)\s*(?:<[^>]*>)?`_*", r"\1"),
    (r"(\\[a-zA-Z]+)(?=\\text\{)", r"\1 "),  # "2\pi\text{target}" are two words
    (r"\\(?:text|mathrm|mathbf|mathbb|operatorname)\{([^}]*)\}", r"\1"),
    (r"\\d?frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}", r"(\1)/(\2)"),
    (r"__? https?://\S+", ""),
    (r"(?m)^[ \t]*::[ \t]*$", ""),
    (r"(?m)::[ \t]*$", ":"),
    (r"\\(?:begin|end)\{\w+\*?\}", ""),
    (r"\\\\", ""),  # the end of a line, as & is a column of it
    (r"(?m)[ \t]*&[ \t]*(?==|$)|[ \t]&[ \t]+", " "),
    (r"\\not\s*=", "≠"),
    (r"\\([{}()])", r"\1"),
    (r"\\(?=\s|$)", ""),
    (r"\\_", "_"),
    (r"\\[,;! ]", " "),
)
_SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "lambda": "λ",
    "mu": "μ", "nu": "ν", "rho": "ρ", "sigma": "σ", "phi": "φ", "times": "×", "cdot": "·", "sum": "Σ", "leq": "≤",
    "geq": "≥", "le": "≤", "ge": "≥", "infty": "∞", "sqrt": "√", "ast": "*", "star": "⋆", "left": "", "right": "",
    "quad": " ", "in": "∈", "pm": "±", "neq": "≠", "partial": "∂", "pi": "π", "Phi": "Φ",
    "dots": "…", "ldots": "…", "cdots": "⋯", "odot": "⊙",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "ell": "ℓ", "top": "ᵀ", "div": "÷", "sim": "~",
    "mid": "|", "lvert": "|", "rvert": "|", "Vert": "‖", "geqslant": "≥", "leqslant": "≤", "approx": "≈", "to": "→",
    "rightarrow": "→", "prod": "Π", "tau": "τ", "xi": "ξ", "psi": "ψ", "omega": "ω", "Delta": "Δ",
}  # fmt: skip


def readable(text: str) -> str:
    """A docstring without the markup that a terminal can't show."""
    for pattern, replacement in _MARKUP:
        text = re.sub(pattern, replacement, text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda found: _SYMBOLS.get(found[1], found[1]), text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)[ \t]+$", "", text)).strip()


def reflowed(text: str) -> str:
    """`text` with each paragraph on one line, so that it wraps at any width; indented lines stay lines."""
    return re.sub(r"(?<=\S)\n(?=[\w(])", " ", text)


def first_sentence(text: str) -> str:
    """`text` up to its first full stop or semicolon, without it."""
    return re.split(r"(?<=[.;])\s", text)[0].rstrip(".;")
