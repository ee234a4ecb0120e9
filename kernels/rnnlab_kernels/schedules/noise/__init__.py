"""Random masks from a counter."""
