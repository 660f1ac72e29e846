"""How samples reach the device as batches."""
