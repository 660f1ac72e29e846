"""A training's state: taken, kept, and put back, into a changed recipe too."""
