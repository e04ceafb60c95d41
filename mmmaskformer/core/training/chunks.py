"""The amount of work to do at a time."""

import torch


def chunk_rows(row_elements: int, device: torch.device) -> int:
    """Number of rows with ``row_elements`` elements to compute at a time.

    On a CPU, the few tensors of a chunk should fit into its cache. On other devices, few launches of large kernels are
    better, and the limit bounds the memory to about a gigabyte.
    """
    limit = 300_000 if device.type == 'cpu' else 60_000_000
    return max(1, limit // max(1, row_elements))
