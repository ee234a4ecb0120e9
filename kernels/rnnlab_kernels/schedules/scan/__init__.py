"""Linear recurrences, in parallel over time."""
