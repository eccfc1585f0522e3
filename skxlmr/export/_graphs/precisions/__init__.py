"""The precisions that weights can be stored and computed in."""

from skxlmr.export._graphs.precisions.half import HalfWeights
from skxlmr.export._graphs.precisions.int8 import Int8Weights
from skxlmr.export._graphs.precisions.weights import Weights

WEIGHTS: dict[str, type[Weights]] = {kind.precision: kind for kind in (Weights, HalfWeights, Int8Weights)}
