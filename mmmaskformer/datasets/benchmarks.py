"""Published semantic benchmarks besides ADE20K, in the layout of `mmmaskformer data prepare`; a registry location.

docs/datasets.md says where to download them and what each command writes.
"""

from mmmaskformer.datasets.metainfo import load_metainfo
from mmmaskformer.datasets.seg import MaskFormerSegDataset
from mmmaskformer.formats.label_maps import IGNORE_INDEX_16BIT
from mmmaskformer.registry import DATASETS

MAPILLARY_UNLABELED = 65


@DATASETS.register_module()
class ADE20KFullDataset(MaskFormerSegDataset):
    """ADE20K-Full, release 2021_17_01, with 847 classes: labels of 16 bits.

    Folders ``images/{training,validation}`` (.jpg) and ``annotations/{training,validation}`` (.png of 16 bits, ids 0 to
    846, 65535 ignored). Load with ``mmmaskformer.LoadSegAnnotations``: MMSegmentation's loader keeps 8 bits.

    Args:
        ignore_index: label of ignored pixels.
        **kwargs: see `MaskFormerSegDataset`. Files of the published preparation script need ``seg_map_suffix='.tif'``.
    """

    METAINFO = load_metainfo('ade20k_full')

    def __init__(self, ignore_index: int = IGNORE_INDEX_16BIT, **kwargs) -> None:
        super().__init__(ignore_index=ignore_index, **kwargs)


@DATASETS.register_module()
class COCOStuff10KDataset(MaskFormerSegDataset):
    """COCO-Stuff-10K with 171 classes, the 80 things first, in the layout of MMSegmentation.

    Folders ``images/{train2014,test2014}`` (.jpg) and ``annotations/{train2014,test2014}`` (``_labelTrainIds.png``, ids
    1 to 171, 0 ignored).

    Args:
        reduce_zero_label: whether ids in the files start at 1.
        seg_map_suffix: what label files end in.
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = load_metainfo('cocostuff10k')

    def __init__(self, reduce_zero_label: bool = True, seg_map_suffix: str = '_labelTrainIds.png', **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class CityscapesDataset(MaskFormerSegDataset):
    """Cityscapes with the 19 classes of its benchmark.

    Folders ``leftImg8bit/{train,val}/CITY`` (``_leftImg8bit.png``) and ``gtFine/{train,val}/CITY``
    (``_gtFine_labelTrainIds.png``, ids 0 to 18, 255 ignored).

    Args:
        img_suffix: what image files end in.
        seg_map_suffix: what label files end in.
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = load_metainfo('cityscapes')

    def __init__(
        self,
        img_suffix: str = '_leftImg8bit.png',
        seg_map_suffix: str = '_gtFine_labelTrainIds.png',
        **kwargs,
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class MapillaryDataset(MaskFormerSegDataset):
    """Mapillary Vistas v1.2 with 65 classes, as published: label 65, "Unlabeled", is ignored.

    Folders ``{training,validation}/images`` (.jpg) and ``{training,validation}/labels`` (.png, ids 0 to 65).

    Args:
        ignore_index: label of ignored pixels; the head and ``seg_pad_val`` of the data preprocessor need the same.
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = load_metainfo('mapillary')

    def __init__(self, ignore_index: int = MAPILLARY_UNLABELED, **kwargs) -> None:
        super().__init__(ignore_index=ignore_index, **kwargs)
