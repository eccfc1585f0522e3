"""From encoded rows to outputs: batches, kernels, precision, memory and order."""

from skxlmr.inference._progress import Progress
from skxlmr.inference._stores.store import Store, StoreInfo
from skxlmr.inference.cache import Cache, cache_info, cache_of, clear_cache
from skxlmr.inference.engine import Engine
from skxlmr.inference.prefix import FrozenPrefix

__all__ = [
    "Cache",
    "Engine",
    "FrozenPrefix",
    "Progress",
    "Store",
    "StoreInfo",
    "cache_info",
    "cache_of",
    "clear_cache",
]
