"""Strings to token ids and back. Nothing here knows about torch."""

from skxlmr.text._encoded import EncodedBatch, describe_loss
from skxlmr.text._fast.tokenizer import FastTokenizer
from skxlmr.text._load import forget_vocabularies, load_tokenizer
from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._sentencepiece.tokenizer import SentencePieceTokenizer
from skxlmr.text._special_tokens import AddedToken, TokenizerSettings
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._truncation import NoRoomError
from skxlmr.text._xlm.tokenizer import XLMTokenizer

__all__ = [
    "AddedToken",
    "EncodedBatch",
    "FastTokenizer",
    "NoRoomError",
    "SentencePieceTokenizer",
    "SubwordSampling",
    "Tokenizer",
    "TokenizerSettings",
    "XLMTokenizer",
    "describe_loss",
    "forget_vocabularies",
    "load_tokenizer",
]
