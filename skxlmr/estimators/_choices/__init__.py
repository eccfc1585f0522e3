"""The right one of several texts."""
