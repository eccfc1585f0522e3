"""The state of a fit: in memory, to go back to, and in a file, to continue from."""
