"""Texts as numbers: characters, words and byte pairs, learned from training samples."""
