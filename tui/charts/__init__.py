"""Curves in a terminal: the live chart of the studio and the plain one of `torch-tui show`."""
