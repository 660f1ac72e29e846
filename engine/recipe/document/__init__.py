"""A recipe's file as a person wrote it: changed settings are written into its text, the rest stays byte for byte.

tomlkit reads and writes such a text, too, but moving tables of an array about takes their comments apart.
"""

from engine.recipe.document.edit import fresh, updated

__all__ = ["fresh", "updated"]
