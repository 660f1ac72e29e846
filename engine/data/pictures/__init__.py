"""Pictures in files: found in folders, decoded, brought to one size."""
