"""NumPy arrays: which are inputs and targets, what their values are, and samples made of them."""
