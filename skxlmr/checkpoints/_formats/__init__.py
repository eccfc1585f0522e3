"""The formats of weights, one per file; only these files know the foreign names.

``table`` lists them. ``read`` and ``write`` are the way in and out: one file or shards with an index.
"""
