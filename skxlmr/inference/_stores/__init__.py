"""What keeps outputs of an encoder: the protocol, the memory of this process, and a folder."""

from skxlmr.inference._stores.disk import DiskStore

__all__ = ["DiskStore"]
