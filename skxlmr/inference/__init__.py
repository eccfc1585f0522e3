"""From encoded rows to outputs: batches, kernels, precision, memory and order."""

from skxlmr.inference._store import Store, StoreInfo
from skxlmr.inference.cache import Cache, cache_info, cache_of, clear_cache
from skxlmr.inference.engine import Engine

__all__ = ["Cache", "Engine", "Store", "StoreInfo", "cache_info", "cache_of", "clear_cache"]
