"""Dialogues: which response follows."""
