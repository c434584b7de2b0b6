"""A study is a value: variants, seeds, judge; run it, record it, read it, compare."""
