"""Where computing happens: the device and its memory, threads after a fork, turns on a GPU."""
