"""The same supernet in a fraction of the work; packs of several."""
