"""What keeps outputs of an encoder: the protocol, the memory of this process, and a folder."""
