"""LoRA adapters with random matrices: written by hand as peft writes them, or made and merged by peft itself."""

import json
import shutil
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

from skxlmr.checkpoints import read_config

PREFIX = "base_model.model."
QUERY = "roberta.encoder.layer.{}.attention.self.query"
# What peft 0.21 writes, for an adapter with its defaults
CONFIG = {
    **dict.fromkeys(
        (
            "alora_invocation_tokens arrow_config auto_mapping corda_config eva_config exclude_modules kasa_config "
            "layer_replication layers_pattern layers_to_transform lora_ga_config megatron_config modules_to_save "
            "monteclora_config revision target_parameters task_type trainable_token_indices use_bdlora velora_config"
        ).split()
    ),
    "alpha_pattern": {},
    "bias": "none",
    "ensure_weight_tying": False,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "megatron_core": "megatron.core",
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 2,
    "rank_pattern": {},
    "target_modules": ["query"],
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}


def matrices(r=2, n_layers=2, width=32, seed=0, module=QUERY):
    """A and B of one module in each layer, under the names of a file."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for i in range(n_layers):
        name = PREFIX + module.format(i)
        tensors[f"{name}.lora_A.weight"] = torch.randn(r, width, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(width, r, generator=generator)
    return tensors


def write(folder, base, tensors=None, **config):
    """Write an adapter by hand; without ``tensors`` it adapts the query of both layers."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**CONFIG, "base_model_name_or_path": None if base is None else str(base), **config}
    (folder / "adapter_config.json").write_text(json.dumps(content, indent=2))
    save_file(
        matrices() if tensors is None else tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"}
    )
    return folder


def opened(base, kind, resize=None, **config):
    """The base as a model of transformers, of the class ``kind``."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = getattr(transformers, kind).from_pretrained(base, **config)
    if resize:
        model.resize_token_embeddings(resize, mean_resizing=False)
    return model.eval()


def made(folder, base, kind, seed=0, model=None, bin=False, **lora):
    """Make an adapter with peft, every trained weight of it changed, and save it."""
    import peft

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        adapted = peft.get_peft_model(opened(base, kind, **(model or {})), peft.LoraConfig(**{"r": 2, **lora}))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
        adapted.save_pretrained(folder, safe_serialization=not bin)
    return Path(folder)


def merged(folder, base, kind, **model):
    """What peft makes of the saved adapter."""
    import peft

    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        adapted = peft.PeftModel.from_pretrained(opened(base, kind, **model), folder)
        return adapted.merge_and_unload().eval()


def change_config(folder, **changes):
    """Change keys of the adapter's config; None removes one."""
    content = read_adapter_config(folder)
    content = {key: value for key, value in {**content, **changes}.items() if value is not None or key not in changes}
    (Path(folder) / "adapter_config.json").write_text(json.dumps(content))
    return folder


def read_adapter_config(folder):
    return json.loads((Path(folder) / "adapter_config.json").read_text())


def describes(folder):
    """``config.json`` of a base."""
    return read_config(folder)


def without_settings(folder, target):
    """A copy with the adapter alone, as peft writes it."""
    Path(target).mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(Path(folder) / name, target)
    return Path(target)
