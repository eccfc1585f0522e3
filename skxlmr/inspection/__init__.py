"""Displays and explanations: what a fit did, what a model looks at, and where it is right."""

__all__: list[str] = []
