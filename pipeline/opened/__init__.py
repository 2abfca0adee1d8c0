"""A cache, opened to be looked at: what `griddle.open_cache` gives."""
