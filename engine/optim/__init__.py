"""Optimizers, parameter groups and learning-rate schedules from a recipe, stepped as one thing."""
