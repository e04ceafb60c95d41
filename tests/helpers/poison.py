"""A transform that sets values of an image to inf or NaN, as a faulty file or transform might."""

from pathlib import Path

import numpy as np
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Poison:
    """Converts images to float and sets a value of one of them to NaN.

    Args:
        name: file name of that image.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, results: dict) -> dict:
        results['img'] = results['img'].astype(np.float32)
        if Path(results['img_path']).name == self.name:
            results['img'][5, 6, 1] = np.nan
        return results
