"""rnnlab: a laboratory for recurrent networks.

Importing this package is free: layers live in `rnnlab.nn`, tasks in `rnnlab.tasks`, the command line in
`rnnlab.cli`, and each loads what it needs when it is imported.
"""

__version__ = "0.1.0"
