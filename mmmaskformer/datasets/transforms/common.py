"""What several transforms agree on: the ignored label and which entries of the results are label maps."""

from collections.abc import Mapping

from mmmaskformer.formats.label_maps import IGNORE_INDEX_8BIT

PANOPTIC_MAP = 'gt_panoptic_map'
"""Key of the map of segment indices, (H, W) int16; `NO_SEGMENT` where a pixel belongs to none."""

NO_SEGMENT = -1
"""The value of `mmmaskformer.core.structures.NO_SEGMENT`."""


def agreed_value(key: str, argument: int | None, results: Mapping, transform: str) -> int | None:
    """A number that a transform's argument, the dataset, or both may state.

    Args:
        key: its name, in the results and as argument: 'num_classes' or 'ignore_index'.
        argument: what the transform was built with; None leaves it to the dataset.
        results: the results dict; our datasets put ``key`` there.
        transform: name of the calling class, for the message.

    Returns:
        The number, None if nobody states it.

    Raises:
        ValueError: if both state it and differ.
    """
    told = results.get(key)
    if argument is not None and told is not None and argument != told:
        raise ValueError(
            f'{transform}: {key}={argument} in the pipeline, but the dataset says {key}={told}. '
            f'Fix: remove {key} from the pipeline, the dataset passes its own.'
        )
    return told if argument is None else argument


def ignore_index_of(argument: int | None, results: Mapping, transform: str) -> int:
    """The label of ignored pixels: the argument, else the dataset's, else 255.

    Raises:
        ValueError: if argument and dataset differ.
    """
    value = agreed_value('ignore_index', argument, results, transform)
    return IGNORE_INDEX_8BIT if value is None else value


def label_map_keys(results: Mapping, transform: str) -> list[str]:
    """Keys of the label maps that have to follow the image: ``results['seg_fields']``.

    Raises:
        ValueError: if the results hold boxes, instance masks or key points, which would be left behind.
    """
    left_behind = [key for key in ('gt_bboxes', 'gt_masks', 'gt_keypoints') if results.get(key) is not None]
    if left_behind:
        raise ValueError(
            f'{transform} moves images and label maps only, but the results also hold {left_behind}. Fix: use it '
            'before such annotations are loaded, or take the transforms of MMDetection in this pipeline.'
        )
    return [key for key in results.get('seg_fields', []) if results.get(key) is not None]
