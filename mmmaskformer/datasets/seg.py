"""Datasets of images and label maps for MMSegmentation; the registry's location for `DATASETS`."""

from collections import Counter
from os import path as osp
from pathlib import PurePath

import numpy as np
from mmengine import fileio

from mmmaskformer.core.checks import BOOLEAN, MAPPING, PATH, TEXT, checked, whole
from mmmaskformer.datasets.metainfo import load_metainfo, require_names
from mmmaskformer.datasets.pipelines import check_pipelines
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.datasets.transforms.loading import load_labels, require_free_ignore_index
from mmmaskformer.registry import DATASETS

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.datasets import ADE20KDataset as HostADE20KDataset  # isort: skip
from mmseg.datasets import BaseSegDataset  # isort: skip

SHOWN = 3


@DATASETS.register_module()
@checked(
    metainfo_file=PATH.or_none(),
    metainfo=MAPPING.or_none(),
    ignore_index=whole(),
    reduce_zero_label=BOOLEAN,
    img_suffix=TEXT,
    seg_map_suffix=TEXT,
    backend_args=MAPPING.or_none(),
    data_root=PATH.or_none(),
    test_mode=BOOLEAN,
    lazy_init=BOOLEAN,
    serialize_data=BOOLEAN,
    max_refetch=whole(0),
)
class MaskFormerSegDataset(BaseSegDataset):
    """Images with label maps in two folders, checked when it is built: every image has its map and the reverse.

    An entry is what mmseg's transforms expect, plus ``num_classes`` and ``ignore_index``, which our transforms read.
    For data with labels of more than 8 bits set ``ignore_index=65535`` and load with
    ``mmmaskformer.LoadSegAnnotations``.

    Differs from mmseg's BaseSegDataset: that one takes an empty or missing folder for a data set of length 0 or
    fails in a worker, and maps the classes left out of ``metainfo`` to 255 whatever ``ignore_index`` is.

    Args:
        metainfo_file: the class list: a name such as 'camvid' or the path of a JSON file, see
            `mmmaskformer.datasets.metainfo.load_metainfo`.
        metainfo: the class list itself, ``dict(classes=..., palette=...)``; instead of ``metainfo_file``. A data set
            with a list of its own needs neither; a part of its classes leaves the others out.
        **kwargs: of mmseg's BaseSegDataset, which knows no others: data_root, data_prefix
            (``dict(img_path=..., seg_map_path=...)``; without seg_map_path only with test_mode), img_suffix ('.jpg'),
            seg_map_suffix ('.png'), ann_file (a text file of the names to use), reduce_zero_label, ignore_index,
            pipeline, test_mode, ...

    Raises:
        ValueError: if there is no class list or two, a class name occurs twice, the classes leave no room for
            ``ignore_index``, the image folder has no images, images and label maps do not pair up, or the pipeline
            parts them.
        FileNotFoundError: if the class list, a folder or ``ann_file`` does not exist.
    """

    def __init__(self, metainfo_file: str | None = None, metainfo: dict | None = None, **kwargs) -> None:
        if metainfo_file is not None:
            if metainfo is not None:
                raise ValueError(
                    f'{type(self).__name__}: found both metainfo_file={metainfo_file!r} and metainfo, expected one '
                    'class list. Fix: remove one of the two.'
                )
            metainfo = load_metainfo(metainfo_file)
        super().__init__(metainfo=metainfo, **kwargs)
        require_free_ignore_index(len(self.metainfo['classes']), self.ignore_index)
        check_pipelines(self)

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        """mmengine's hook: the metainfo of this data set, with a checked list of classes."""
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
        self._require_folders()
        entries = super().load_data_list()
        if not entries:
            raise ValueError(self._describe_no_images())
        if 'seg_map_path' in self.data_prefix:
            self._require_pairs(entries)
        label_map = self._ignoring_label_map()
        for entry in entries:
            entry.update(label_map=label_map, num_classes=len(self.metainfo['classes']), ignore_index=self.ignore_index)
        return entries

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels in an image, ascending; for wrappers that balance classes, which ask twice for every image.

        Reads the label map at the first time.

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
        """The host's map from all classes to the chosen ones, the others to our ``ignore_index`` instead of 255."""
        if self.label_map is None:
            return None
        every = self.METAINFO['classes']
        chosen = set(self.metainfo['classes'])
        return {old: new if every[old] in chosen else self.ignore_index for old, new in self.label_map.items()}

    def _require_folders(self) -> None:
        """Raise if a folder or the list of names is missing, or label maps are missing for training."""
        name = type(self).__name__
        if 'seg_map_path' not in self.data_prefix and not self.test_mode:
            raise ValueError(
                f"{name}: data_prefix is {self.data_prefix}, expected also 'seg_map_path', the folder of the label "
                'maps, for training. Fix: add it; only with test_mode=True it may be absent.'
            )
        for key, folder in self.data_prefix.items():
            if not fileio.isdir(folder, backend_args=self.backend_args):
                without = ''
                if key == 'seg_map_path' and self.test_mode:
                    without = ' To predict without labels, leave seg_map_path out.'
                raise FileNotFoundError(
                    f'{name}: data_prefix[{key!r}] is the folder {folder!r}, which does not exist '
                    f'(data_root={self.data_root!r}). Fix: download or link the data there, or correct data_root or '
                    f'data_prefix; relative paths start at the working directory.{without}'
                )
        if self.ann_file and not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{name}: ann_file {self.ann_file!r} does not exist. Expected: a text file with one image name without '
                'suffix in each line. Fix: correct the path, or leave ann_file empty to use the whole folder.'
            )

    def _describe_no_images(self) -> str:
        """Message for a data set of length 0, telling what the folder or the list holds instead."""
        name, folder = type(self).__name__, self.data_prefix['img_path']
        if self.ann_file:
            return f'{name}: ann_file {self.ann_file!r} is empty, expected one image name in each line.'
        suffixes = Counter(PurePath(file).suffix for file in self._files(folder, None))
        found = ', '.join(f'{count} x {suffix!r}' for suffix, count in suffixes.most_common(SHOWN)) or 'no file at all'
        return (
            f"{name}: data_prefix['img_path'] is the folder {folder!r} (data_root={self.data_root!r}); found {found}, "
            f'expected images that end in {self.img_suffix!r}. Fix: correct data_prefix or img_suffix.'
        )

    def _files(self, folder: str, suffix: str | None) -> list[str]:
        """Files below a folder, relative to it."""
        return list(
            fileio.list_dir_or_file(
                folder, list_dir=False, suffix=suffix, recursive=True, backend_args=self.backend_args
            )
        )

    def _require_pairs(self, entries: list[dict]) -> None:
        """Raise one error that tells which images and label maps have no partner."""
        folder = self.data_prefix['seg_map_path']
        wanted = {entry['seg_map_path'] for entry in entries}
        if self.ann_file:
            images = {entry['img_path'] for entry in entries}
            lost = sorted(path for path in images if not fileio.exists(path, backend_args=self.backend_args))
            missing = sorted(path for path in wanted if not fileio.exists(path, backend_args=self.backend_args))
            lost_what = 'names in ann_file have no image'
        else:
            there = {osp.join(folder, file) for file in self._files(folder, self.seg_map_suffix)}
            missing, lost = sorted(wanted - there), sorted(there - wanted)
            lost_what = 'label maps have no image'
        if not missing and not lost:
            return
        first = [f'{len(files)} {what}: {", ".join(files[:SHOWN])}{", ..." if len(files) > SHOWN else ""}'
                 for files, what in ((missing, 'label maps are missing'), (lost, lost_what)) if files]  # fmt: skip
        raise ValueError(
            f'{type(self).__name__}: {len(entries)} images in {self.data_prefix["img_path"]!r}; {"; ".join(first)}. '
            f'Expected for each NAME{self.img_suffix} a label map {osp.join(folder, "NAME" + self.seg_map_suffix)}. '
            'Fix: complete the folders, correct data_prefix, img_suffix or seg_map_suffix, or list the names to use '
            'in ann_file.'
        )


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
    """The invented scenes of `mmmaskformer.datasets.scenes.scenes`, 9 classes, as its writer lays them out.

    Folders ``images/{train,val}`` and ``annotations/{train,val}`` (both .png, ids 0 to 8, 255 ignored).

    Args:
        img_suffix: ending of the image files.
        **kwargs: see `MaskFormerSegDataset`.
    """

    METAINFO = {key: scenes.METAINFO[key] for key in ('classes', 'palette')}

    def __init__(self, img_suffix: str = '.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, **kwargs)
