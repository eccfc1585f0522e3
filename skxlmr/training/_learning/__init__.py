"""What of a module learns in a fit: adapters in the place of linear layers, and the words that the texts use."""
