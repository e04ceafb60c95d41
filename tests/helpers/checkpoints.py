"""Checkpoints as a training run writes them, and one that tries to run code."""

import os

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer


class Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def content(**more) -> dict:
    """A small version of what mmengine's Runner saves."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    weights = dict(weight=torch.arange(6.0).reshape(2, 3), half=torch.ones(2, dtype=torch.float16))
    hub = dict(log_scalars={'train/loss': history}, runtime_info=dict(best_score=np.float64(40.5)))
    return dict(state_dict=weights, message_hub=hub, meta=dict(palette=np.eye(3, dtype=np.uint8))) | more
