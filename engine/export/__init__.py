"""A recipe taken away: as a file that runs without torch-tui."""
