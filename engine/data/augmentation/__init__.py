"""Augmentation of whole batches that draws anew for every sample: vectorised, or by torchvision sample by sample."""
