"""Datasets of images and label maps for MMSegmentation; the registry's location for `DATASETS`."""

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log

from mmmaskformer.core.checks import MAPPING, PATH, TEXT, checked, list_of, one_of, whole
from mmmaskformer.datasets.folders import LabelledFolders
from mmmaskformer.datasets.metainfo import chosen_metainfo, load_metainfo, require_names
from mmmaskformer.datasets.pipelines import check_pipelines
from mmmaskformer.datasets.reading import NamesUnreadableImages
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.datasets.settings import DATASET_SETTINGS
from mmmaskformer.formats.label_maps import load_labels, require_ignore_index
from mmmaskformer.registry import DATASETS

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.datasets import ADE20KDataset as HostADE20KDataset  # isort: skip
from mmseg.datasets import BaseSegDataset  # isort: skip


@DATASETS.register_module()
@checked(
    ann_file=PATH | one_of(''),
    filter_cfg=MAPPING.or_none(),
    ignore_index=whole(),
    img_suffix=TEXT | list_of(TEXT),
    seg_map_suffix=TEXT,
    **DATASET_SETTINGS,
)
class MaskFormerSegDataset(NamesUnreadableImages, BaseSegDataset):
    """Images and label maps in two folders; checked on construction that each image has a label map and vice versa.

    Entries are as mmseg's transforms expect, plus ``num_classes`` and ``ignore_index``, which our transforms read. For
    labels of more than 8 bits set ``ignore_index=65535`` and load with ``mmmaskformer.LoadSegAnnotations``.

    Differs from mmseg's BaseSegDataset, which treats an empty or missing folder as a dataset of length 0 or fails in a
    worker, and maps classes that are not in ``metainfo`` to 255 regardless of ``ignore_index``.

    Args:
        metainfo_file: the class list: a name such as 'camvid' or the path of a JSON file, see
            `mmmaskformer.datasets.metainfo.load_metainfo`.
        metainfo: the class list itself, ``dict(classes=..., palette=...)``, instead of ``metainfo_file``. A dataset
            with its own class list needs neither; if some of its classes are given, the others are ignored.
        img_suffix: suffix of image files, or several suffixes. Case does not matter; '.jpg' equals '.jpeg', '.tif'
            equals '.tiff'. Other image files in the folder are ignored, with a warning.
        **kwargs: arguments of mmseg's BaseSegDataset: data_root, data_prefix
            (``dict(img_path=..., seg_map_path=...)``, which may be the same folder; seg_map_path is optional only with
            test_mode), seg_map_suffix ('.png'), ann_file (a text file with a name, or an image file and a label file,
            in each line), reduce_zero_label, ignore_index, pipeline, test_mode, ...

    Raises:
        ValueError: if there is no class list or two, a class name occurs twice, ``ignore_index`` is one of the classes
            or not a valid label, the image folder has no images, images and label maps do not match, or the pipeline
            separates them.
        FileNotFoundError: if the class list, a folder or ``ann_file`` does not exist.
    """

    def __init__(
        self,
        metainfo_file: str | None = None,
        metainfo: dict | None = None,
        img_suffix: str | Sequence[str] = '.jpg',
        **kwargs,
    ) -> None:
        metainfo = chosen_metainfo(type(self).__name__, metainfo_file, metainfo, load_metainfo)
        super().__init__(metainfo=metainfo, img_suffix=img_suffix, **kwargs)
        require_ignore_index(self.ignore_index, len(self.metainfo['classes']))
        check_pipelines(self)

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        """mmengine's hook: the metainfo of this dataset, with a checked list of classes."""
        loaded = super()._load_metainfo(metainfo)
        if 'classes' not in loaded:
            raise ValueError(
                f'{cls.__name__}: no class list. Fix: set metainfo_file to a JSON file, or '
                'metainfo=dict(classes=(...), palette=[...]).'
            )
        require_names(loaded['classes'], f'of {cls.__name__}')
        return loaded

    def load_data_list(self) -> list[dict]:
        """List the images with their label maps, sorted by path (in the order of ``ann_file`` if there is one).

        Returns:
            One dict for each image: img_path, seg_map_path (if there are label maps), label_map, reduce_zero_label,
            seg_fields (empty), num_classes, ignore_index.

        Raises:
            ValueError, FileNotFoundError: see the class.
        """
        pairs = LabelledFolders(
            owner=type(self).__name__,
            data_root=self.data_root,
            data_prefix=self.data_prefix,
            ann_file=self.ann_file,
            img_suffix=self.img_suffix,
            seg_map_suffix=self.seg_map_suffix,
            test_mode=self.test_mode,
            backend_args=self.backend_args,
            warn=self._warn,
        ).pairs()
        label_map = self._ignoring_label_map()
        return [
            dict(img_path=image)
            | ({} if labels is None else dict(seg_map_path=labels))
            | dict(
                label_map=label_map,
                reduce_zero_label=self.reduce_zero_label,
                seg_fields=[],
                num_classes=len(self.metainfo['classes']),
                ignore_index=self.ignore_index,
            )
            for image, labels in pairs
        ]

    def _warn(self, text: str) -> None:
        print_log(f'{type(self).__name__}: {text}', logger='current', level=logging.WARNING)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels in an image, ascending, for wrappers that balance classes.

        The label map is read at the first call only; the wrappers call twice for every image.

        Args:
            idx: of the image.

        Returns:
            Labels in [0, K).
        """
        info, known = self.get_data_info(idx), vars(self).setdefault('_cat_ids', {})
        if info['seg_map_path'] not in known:
            labels = np.unique(load_labels(info, self.ignore_index, self.backend_args))
            labels = labels[(labels >= 0) & (labels < len(self.metainfo['classes'])) & (labels != self.ignore_index)]
            known[info['seg_map_path']] = labels.tolist()
        return known[info['seg_map_path']]

    def _ignoring_label_map(self) -> dict[int, int] | None:
        """The host's map from all classes to the selected ones, with our ``ignore_index`` instead of 255 for others."""
        if self.label_map is None:
            return None
        every = self.METAINFO['classes']
        chosen = set(self.metainfo['classes'])
        return {old: new if every[old] in chosen else self.ignore_index for old, new in self.label_map.items()}


@DATASETS.register_module()
class ADE20KDataset(MaskFormerSegDataset):
    """ADE20K with 150 classes: the host's class list and layout, checked as above.

    Folders ``images/{training,validation}`` (.jpg) and ``annotations/{training,validation}`` (.png, ids 1 to 150,
    0 ignored).

    Args:
        reduce_zero_label: whether ids in the files start at 1.
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = HostADE20KDataset.METAINFO

    def __init__(self, reduce_zero_label: bool = True, **kwargs) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class CamVidDataset(MaskFormerSegDataset):
    """CamVid with the 11 classes and the split of the SegNet authors, 480 x 360 pixels.

    Folders ``images/{train,val,test}`` (.jpg) and ``annotations/{train,val,test}`` (.png, ids 0 to 10, 255 ignored).

    Args:
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = load_metainfo('camvid')


@DATASETS.register_module()
class ScenesDataset(MaskFormerSegDataset):
    """The synthetic scenes of `mmmaskformer.datasets.scenes.scenes`, 9 classes, as its writer lays them out.

    Folders ``images/{train,val}`` and ``annotations/{train,val}`` (both .png, ids 0 to 8, 255 ignored).

    Args:
        img_suffix: suffix of the image files.
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = {key: scenes.METAINFO[key] for key in ('classes', 'palette')}

    def __init__(self, img_suffix: str = '.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, **kwargs)
