"""Tasks: what a step computes and what is measured. One file a task."""
