"""A checkpoint with the part of its vocabulary that some texts use."""

from skxlmr.trimming._report import Coverage, TrimReport
from skxlmr.trimming._trim import trim_vocabulary

__all__ = ["Coverage", "TrimReport", "trim_vocabulary"]
