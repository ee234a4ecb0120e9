"""Layers of torch's own libraries."""
