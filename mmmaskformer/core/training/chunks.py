"""How much to compute at a time."""

import torch


def chunk_rows(row_elements: int, device: torch.device) -> int:
    """How many rows of that many elements to compute at a time.

    On a CPU a chunk's few tensors should stay in its cache; elsewhere few launches of large kernels are better, and the
    limit bounds the memory to about a gigabyte.
    """
    limit = 300_000 if device.type == 'cpu' else 60_000_000
    return max(1, limit // max(1, row_elements))
