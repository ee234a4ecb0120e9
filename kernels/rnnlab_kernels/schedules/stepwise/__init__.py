"""Python owns the time loop: hand-written backpropagation through time, products by torch, gates by a kit."""
