"""A small grid as text, which the tests of grids change and read."""

GRID = """\
size: smoke
parts:
  first:
    spaces: [s1, s2]
    datasets: [noisy-digits]
    methods: [darts, lambda]
    seeds: [0, 1]
    evaluations:
      - {recipe: cifar}
      - recipe: cifar-small
        datasets: [digits]
        seeds: [3, 4]
"""
