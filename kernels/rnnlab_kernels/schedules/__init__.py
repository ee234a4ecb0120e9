"""How a recurrence runs over time, once for all cells."""
