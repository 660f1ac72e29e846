"""Screens that ask or show one thing and go away again."""
