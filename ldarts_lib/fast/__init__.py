"""The fast supernet: the mathematics, parameters and buffers of the reference, in a fraction of the work.

* What depends on a source state alone (ReLU, pooling, subsampling) is computed once for all its edges.
* The mixing weight rides in the normalization's scale: the mixed operations of an edge are one weighted sum
  of normalized tensors, and the gradients of the cells by their architecture weights cost nothing extra.
* Two strategies: ``separate`` calls one convolution per operation (for small states, per kind of operation),
  which suits a CPU; ``batched`` handles all operations of all edges that leave a state together, which suits
  a GPU, where launches count.
* Convolutions and normalizations differentiate twice in few operations, for the exact regularizer.

Because names and shapes are those of the reference, ``load_state_dict`` carries weights both ways.
"""

from ldarts_lib.fast.execution import Strategy
from ldarts_lib.fast.supernet import FastSupernet

__all__ = ["FastSupernet", "Strategy"]
