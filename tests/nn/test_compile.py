"""Modules become graphs: ``torch.export`` and ``torch.compile`` of padded batches, of any number of rows and tokens."""

from dataclasses import replace

import pytest
import torch

from skxlmr import nn
from skxlmr.nn.bert import bert, distilbert
from skxlmr.nn.bert.config import BertConfig, DistilBertConfig
from skxlmr.nn.kernels.linear import fast_inference

XLMR = nn.ModelConfig(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=140,
)
XL = nn.XLMRobertaXLConfig.from_dict({**XLMR.to_dict(), "model_type": "xlm-roberta-xl"})
GEOMETRY = {
    name: getattr(XLMR, name) for name in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")
}
BERT = BertConfig(**GEOMETRY, num_hidden_layers=1, max_position_embeddings=140)
DISTILBERT = DistilBertConfig(**GEOMETRY, num_hidden_layers=1, max_position_embeddings=140)
XLM = nn.XLMConfig(vocab_size=50, pad_token_id=1, emb_dim=32, n_layers=1, n_heads=2, max_position_embeddings=140)
MODULES = {
    "classifier": lambda: nn.XLMRobertaForSequenceClassification(XLMR, 3),
    "decoder": lambda: nn.XLMRobertaForCausalLM(replace(XLMR, is_decoder=True)),
    "XLM-R XL": lambda: nn.XLMRobertaXLForSequenceClassification(XL, 3),
    "BERT": lambda: bert.BertForSequenceClassification(BERT, 3),
    "DistilBERT": lambda: distilbert.DistilBertForMaskedLM(DISTILBERT),
    "original XLM": lambda: nn.XLMForSequenceClassification(XLM, 3),
}


def rows(n, longest, seed=0):
    """Padded ids and mask, every other row with padding."""
    ids = torch.randint(5, 50, (n, longest), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(n, longest, dtype=torch.int64)
    mask[1::2, longest // 2 :] = 0
    return ids.masked_fill(mask == 0, 1), mask


def assert_same(found, expected, mask):
    """Of tokens, or of rows; of padding any value will do."""
    real = mask.bool() if expected.ndim == 3 else slice(None)
    torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.fixture(params=MODULES)
def module(request):
    torch.manual_seed(0)
    return MODULES[request.param]().eval()


def test_export(module):
    class Masked(torch.nn.Module):
        """Takes the mask by position."""

        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, ids, mask):
            return self.module(ids, attention_mask=mask)

    sizes = {0: torch.export.Dim("rows", min=2, max=64), 1: torch.export.Dim("tokens", min=2, max=130)}
    exported = torch.export.export(Masked(), rows(3, 6), dynamic_shapes=(sizes, sizes)).module()
    for ids, mask in (rows(3, 6), rows(5, 100), rows(2, 2)):
        assert_same(exported(ids, mask), module(ids, attention_mask=mask), mask)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("fast", [False, True], ids=["plain", "as the estimators call it"])
def test_compile(module, fast, backend):
    """One graph; what traces it is the same with both backends."""
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    for ids, mask in (rows(3, 6), rows(5, 100)):
        with fast_inference() if fast else torch.no_grad():
            assert_same(compiled(ids, attention_mask=mask), module(ids, attention_mask=mask), mask)
