"""The smallest configs of each ``model_type``."""

_SIZES = {"vocab_size": 9, "max_position_embeddings": 12}
_ROBERTA = {**_SIZES, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
_XLM = {**_SIZES, "emb_dim": 4, "n_layers": 1, "n_heads": 2}
_DISTILBERT = {**_SIZES, "dim": 4, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
_AS_ROBERTA = ["xlm-roberta", "roberta", "camembert", "xlm-roberta-xl", "bert"]
_TYPES = {**dict.fromkeys(_AS_ROBERTA, _ROBERTA), "distilbert": _DISTILBERT, "xlm": _XLM}
SMALLEST = {model_type: {**values, "model_type": model_type} for model_type, values in _TYPES.items()}
