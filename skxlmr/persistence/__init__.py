"""Fitted estimators to a folder or the Hugging Face hub and back, without pickle.

The folder is a Hugging Face-style checkpoint (``config.json``, ``model.safetensors``, tokenizer files), which
``transformers`` and every estimator of this library open, plus ``skxlmr.json`` with the parameters and what ``fit`` learnt.
"""

from skxlmr.persistence._load import load
from skxlmr.persistence._push import push_to_hub
from skxlmr.persistence._save import save

__all__ = ["load", "push_to_hub", "save"]
