"""What a process keeps of the checkpoints that it has open: what opening one again would read, convert or build anew."""
