"""Pictures in real pixels, where the terminal can."""
