"""Where tokens look: rows, numbers of each head, and the page."""
