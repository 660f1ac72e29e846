"""A person's own Python: `path/to/file.py:function`, loaded under private names, its folder importable for it."""

from engine.python_file.calls import call, line_of, said
from engine.python_file.loading import Packed, load_function, loaded_anew, reload

__all__ = ["Packed", "call", "line_of", "load_function", "loaded_anew", "reload", "said"]
