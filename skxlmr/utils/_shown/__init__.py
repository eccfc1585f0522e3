"""How results are shown to people: text with marks in HTML, tables, and lists that print readably."""
