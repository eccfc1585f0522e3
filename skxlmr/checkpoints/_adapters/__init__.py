"""Folders of PEFT that hold a LoRA adapter: their base model is found, and the adapter merged into its weights."""
