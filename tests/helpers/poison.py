"""A transform that makes values of an image inf or NaN, as a faulty file or transform does."""

from pathlib import Path

import numpy as np
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Poison:
    """Makes an image of a name a float one that holds NaN.

    Args:
        name: of the file; other images stay as they are, but become floats as well.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, results: dict) -> dict:
        results['img'] = results['img'].astype(np.float32)
        if Path(results['img_path']).name == self.name:
            results['img'][5, 6, 1] = np.nan
        return results
