"""What exported files take over from torch-tui as it stands, and how it is taken."""
