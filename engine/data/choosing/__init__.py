"""Which samples are trained on, watched and left for the end, and which are trained on beside them."""
