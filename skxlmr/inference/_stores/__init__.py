"""Where outputs of an encoder are kept."""

from skxlmr.inference._stores.disk import DiskStore

__all__ = ["DiskStore"]
