"""The command line: files of rows in, files of rows with features or predictions out."""

from skxlmr.cli._main import main

__all__ = ["main"]
