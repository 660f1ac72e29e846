"""How data gets here: downloads, archives, who waits for whom, and how far it is."""
