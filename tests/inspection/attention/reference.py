"""Attention weights of ``transformers``, with its own kernel, for rows of token ids."""

import torch
import transformers

TOLERANCE = 1e-5  # of weights from 0 to 1, in float32


def reference_of(estimator):
    """The encoder of ``transformers`` with the weights of a fitted estimator."""
    config = dict(estimator.config_.to_dict())
    config = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    theirs = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    weights = estimator.module_.backbone.state_dict()
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and all("pooler" in name or "position_ids" in name for name in missing), (missing, unexpected)
    return theirs


def reference_attentions(theirs, ids, **inputs):
    """Weights of one row, (n_layers, n_heads, n_tokens, n_tokens)."""
    inputs = {name: torch.as_tensor(value, dtype=torch.int64)[None] for name, value in inputs.items()}
    with torch.no_grad():
        found = theirs(torch.as_tensor(ids, dtype=torch.int64)[None], output_attentions=True, **inputs)
    return torch.cat(found.attentions).numpy()
