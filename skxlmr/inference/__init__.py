"""From encoded rows to outputs: batches, kernels, precision, memory and order."""

from skxlmr.inference._progress import Progress
from skxlmr.inference._stores.store import Store, StoreInfo
from skxlmr.inference.cache import Cache, cache_info, cache_of, clear_cache
from skxlmr.inference.engine import Engine
from skxlmr.inference.onnx_engine import OnnxEngine, sentence_of
from skxlmr.inference.onnx_module import OnnxModule, Providers, check_has_weights
from skxlmr.inference.prefix import FrozenPrefix

__all__ = [
    "Cache",
    "Engine",
    "FrozenPrefix",
    "OnnxEngine",
    "OnnxModule",
    "Progress",
    "Providers",
    "Store",
    "StoreInfo",
    "cache_info",
    "cache_of",
    "check_has_weights",
    "clear_cache",
    "sentence_of",
]
