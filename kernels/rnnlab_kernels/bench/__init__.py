"""Microbenchmarks of the schedules against torch and others: `python -m rnnlab_kernels.bench --help`."""
