"""The training engine: recipes in, run directories out. It knows nothing of any screen.

Importing this package loads neither torch nor Textual; the modules below it load torch where they need it.
"""
