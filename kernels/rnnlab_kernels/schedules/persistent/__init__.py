"""One launch, or one compiled loop, owns all of time."""
