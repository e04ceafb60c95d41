"""The panoptic datasets, each with its class list, for MMDetection; a registry location for `DATASETS`.

docs/datasets.md says where to download the published ones and what `mmmaskformer data prepare` writes.
"""

from mmmaskformer.datasets.metainfo import load_panoptic_metainfo
from mmmaskformer.datasets.panoptic import PanopticDataset
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.registry import DATASETS


@DATASETS.register_module()
class CocoPanopticDataset(PanopticDataset):
    """COCO panoptic: 133 classes, the 80 things first, in the order of MMDetection.

    Expects, below ``data_root``, COCO's own layout::

        train2017/ val2017/                                       images
        annotations/panoptic_train2017.json, _val2017.json
        annotations/panoptic_train2017/, panoptic_val2017/        PNG files

    Args:
        **kwargs: see `PanopticDataset`.
    """

    METAINFO = load_panoptic_metainfo('coco_panoptic')


@DATASETS.register_module()
class ADE20KPanopticDataset(PanopticDataset):
    """ADE20K panoptic: the 150 classes of the semantic benchmark in their order, 100 of them things.

    Expects, below ``data_root`` (ADEChallengeData2016), the folders that the published preparation script creates::

        images/training/ images/validation/                       images
        ade20k_panoptic_train.json, ade20k_panoptic_val.json      categories 0 to 149
        ade20k_panoptic_train/, ade20k_panoptic_val/              PNG files
        annotations/validation/                                   label maps of the semantic benchmark, ids 1 to 150

    The files list some segments that others cover completely; they are kept as targets with empty masks, as published.

    Differs from MMDetection's ADE20KPanopticDataset, which has the 100 things first; class names are those of
    MMSegmentation.

    Args:
        reduce_zero_label: whether ids in the label maps start at 1.
        **kwargs: see `PanopticDataset`.
    """

    METAINFO = load_panoptic_metainfo('ade20k_panoptic')

    def __init__(self, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class CamVidPanopticDataset(PanopticDataset):
    """CamVid with 11 classes and approximate instances: connected components of car, pedestrian and bicyclist.

    Expects, below ``data_root``::

        images/train/ images/val/                                 images
        panoptic_train.json, panoptic_val.json                    categories 1 to 11
        panoptic_train/, panoptic_val/                            PNG files

    Args:
        **kwargs: see `PanopticDataset`.
    """

    METAINFO = load_panoptic_metainfo('camvid')


@DATASETS.register_module()
class ScenesPanopticDataset(PanopticDataset):
    """The synthetic scenes of `mmmaskformer.datasets.scenes.scenes`, 9 classes, things and stuff mixed.

    Expects, below ``data_root``, what `mmmaskformer.datasets.scenes.files.write_scenes` writes::

        images/train/ images/val/                                 images
        panoptic_train.json, panoptic_val.json                    categories 1 to 9
        panoptic_train/, panoptic_val/                            PNG files

    Args:
        **kwargs: see `PanopticDataset`.
    """

    METAINFO = dict(scenes.METAINFO, category_ids=tuple(range(1, len(scenes.CLASSES) + 1)))


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
