"""What can be searched: cells, spaces, genotypes, published cells. Values, no torch."""
