"""Batch size and neighbours change no bit of what a row gets, on the processors where this was measured."""

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaVectorizer
from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels.linear import fast_inference
from skxlmr.utils._devices.device import fast_half
from tests.nn.test_run_layers import LENGTHS, families, make_encoder

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="kernels of other processors were not measured",
)
DTYPES = ["float32"] if fast_half(torch.device("cpu")) is None else ["float32", "bfloat16"]
WORDS = "le fleuve 河 المدينة городской bird 12 , . ไทย größer".split()


@pytest.mark.parametrize("dtype", DTYPES)
def test_features_of_a_text_are_its_own(dtype):
    # With AMX, products of few rows in bfloat16 are summed in another order than those of many
    tolerance = 0.02 if dtype == "bfloat16" and torch.cpu._is_amx_tile_supported() else 0
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, n)) for n in [*rng.integers(1, 60, 60), 65, 70, 70, 1, 1, 2]]
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", dtype=dtype, device="cpu", memory=None).fit(texts)
    expected = np.concatenate([vectorizer.transform([text]) for text in texts])
    for batch_size in (1, 2, 32):
        vectorizer.set_params(batch_size=batch_size)
        for _ in range(3):  # weights are repacked meanwhile
            some = rng.permutation(len(texts))[: rng.integers(20, len(texts))]
            found = vectorizer.transform([texts[i] for i in some])
            np.testing.assert_allclose(found, expected[some], rtol=0, atol=tolerance)


@families
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_of_a_row_are_its_own(family, dtype):
    encoder = make_encoder(family).eval()
    ids = torch.randint(5, 50, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    precision = torch.bfloat16 if dtype == "bfloat16" else None
    with fast_inference(), torch.autocast("cpu", precision, enabled=precision is not None):
        together = encoder(ids, TokenLayout(LENGTHS)).last_hidden_state.split(LENGTHS)
        for row, found in zip(ids.split(LENGTHS), together, strict=True):
            assert torch.equal(encoder(row, TokenLayout([len(row)])).last_hidden_state, found)
