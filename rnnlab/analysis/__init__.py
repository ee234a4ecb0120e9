"""Looking at runs and networks: pure functions from numbers to numbers or figures."""
