"""Published panoptic benchmarks beside COCO and ADE20K, for MMDetection; a registry location for `DATASETS`.

docs/datasets.md says where to download them and what `mmmaskformer data prepare` writes.
"""

from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.datasets.panoptic import PanopticDataset
from mmmaskformer.registry import DATASETS


@DATASETS.register_module()
class CityscapesPanopticDataset(PanopticDataset):
    """Cityscapes panoptic: the 19 classes in the order of their train ids, 8 of them things.

    Expects, below ``data_root``::

        leftImg8bit/train/CITY/ leftImg8bit/val/CITY/             images
        gtFine/cityscapes_panoptic_train.json, _val.json          categories 7 to 33, the ids of the label files
        gtFine/cityscapes_panoptic_train/, _val/                  PNG files

    Args:
        **kwargs: see `PanopticDataset`.
    """

    METAINFO = load_panoptic_metainfo('cityscapes_panoptic')


@DATASETS.register_module()
class MapillaryPanopticDataset(PanopticDataset):
    """Mapillary Vistas v1.2 panoptic: 65 classes in the order of the labels, 37 of them things.

    Expects, below ``data_root``, the layout of the publishers::

        training/images/ validation/images/                       images
        training/panoptic/panoptic_2018.json and validation/      categories 1 to 65
        training/panoptic/ validation/panoptic/                   PNG files

    Args:
        **kwargs: see `PanopticDataset`.
    """

    METAINFO = load_panoptic_metainfo('mapillary_panoptic')
