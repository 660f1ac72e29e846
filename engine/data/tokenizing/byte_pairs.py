"""Byte pairs are learned here or, from much text, in a process of their own, which can be ended at any time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

from engine.data.tokenizing import merging
from engine.errors import DataError

if TYPE_CHECKING:
    from engine.data.samples import Progress  # which loads torch

_HERE = 2_000_000
"""Characters of text whose pairs are merged within a second."""
_LOOKS_S = 0.1


def learned(texts: Iterable[str], size: int, vocabulary: int, min_count: int, progress: Progress) -> Any:
    """The library's tokenizer of texts with `size` characters in all. Raises what `texts` and `progress` raise.

    The library can't be called off, and merges even what it has counted when the texts are cut short: from much text
    that takes seconds. So a process does it, and is killed.
    """
    if size <= _HERE:
        return merging.merged(texts, vocabulary, min_count)
    from tokenizers import Tokenizer  # only byte pairs need the library

    # -P: not to find our own tokenizers.py. A terminal's Ctrl+C is not for it: who waits for it ends it.
    command = [sys.executable, "-P", merging.__file__, str(vocabulary), str(min_count)]
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as trouble:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=answer, stderr=trouble, start_new_session=True
        )  # fmt: skip
        assert process.stdin is not None
        try:
            told = _tell(process.stdin, texts)
            while process.poll() is None:
                progress("merging byte pairs", 0, 0)
                _wait(process)
            if not told or process.returncode:
                progress("merging byte pairs", 0, 0)  # whoever ended it may have ended the training, too
                raise DataError("data.options.tokenizer", _said(process.returncode, trouble), "Try a smaller dataset.")
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        answer.seek(0)
        return Tokenizer.from_str(answer.read().decode())


def _tell(stdin: IO[bytes], texts: Iterable[str]) -> bool:
    """Give it all texts; whether it took them. The pipe stays open: its end tells that this process was killed."""
    try:
        for text in texts:
            stdin.write(json.dumps(text, ensure_ascii=False).encode() + b"\n")
        stdin.write(b"null\n")
        stdin.flush()
    except BrokenPipeError:
        return False
    return True


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LOOKS_S)
    except subprocess.TimeoutExpired:
        return


def _said(status: int, trouble: IO[bytes]) -> str:
    trouble.seek(0)
    lines = trouble.read().decode(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), f"its process ended with status {status}")
    return f"byte pairs can't be learned: {last}"
