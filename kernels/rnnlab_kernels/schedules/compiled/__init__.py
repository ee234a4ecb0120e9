"""All of time in one compiled call on a CPU, for any chain of stages."""
