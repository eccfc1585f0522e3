"""What is imported late, or only if it is installed: torch, modules of packages, optional dependencies."""
