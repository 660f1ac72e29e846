"""Byte pairs learned by the `tokenizers` library; as a script, from texts on standard input.

The script imports nothing of ours: it is run by its path, wherever torch-tui lies.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any


def merged(texts: Iterable[str], vocabulary: int, min_count: int) -> Any:
    """The library's tokenizer: the pairs most often met in `texts` are merged until there are `vocabulary` tokens."""
    # Not at the top: only byte pairs need the library.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=min_count,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


def main() -> None:
    """Vocabulary and least count as arguments, a text in JSON a line, `null` after the last → the tokenizer as JSON.

    Standard input is not to end before this does: then whoever wants the answer is gone.
    """
    vocabulary, min_count = map(int, sys.argv[1:])
    print(merged(_given(), vocabulary, min_count).to_str())


def _given() -> Iterator[str]:
    for line in sys.stdin.buffer:
        text = json.loads(line)
        if text is None:
            threading.Thread(target=_end_with_the_other, daemon=True).start()
            return
        yield text
    os._exit(1)


def _end_with_the_other() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
