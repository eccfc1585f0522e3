"""Tokens one after another: what decoders keep of the tokens before, and how the next one is chosen."""
