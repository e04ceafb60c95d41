"""Datasets of images and label maps for MMSegmentation; the registry's location for `DATASETS`."""

import logging
from collections.abc import Sequence
from os import path as osp

import numpy as np
from mmengine import fileio
from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, MAPPING, PATH, TEXT, checked, list_of, one_of, whole
from mmmaskformer.datasets.checks import INDICES, PIPELINE
from mmmaskformer.datasets.metainfo import load_metainfo, require_names
from mmmaskformer.datasets.pairing import (
    candidates,
    count_suffixes,
    decode_list,
    ending_of,
    parse_list,
    some,
    sort_files,
    spellings,
)
from mmmaskformer.datasets.pipelines import check_pipelines
from mmmaskformer.datasets.scenes import scenes
from mmmaskformer.formats.label_maps import load_labels, require_ignore_index
from mmmaskformer.registry import DATASETS

# After our registry, which makes mmseg importable with mmcv-lite.
from mmseg.datasets import ADE20KDataset as HostADE20KDataset  # isort: skip
from mmseg.datasets import BaseSegDataset  # isort: skip


@DATASETS.register_module()
@checked(
    metainfo_file=PATH.or_none(),
    metainfo=MAPPING.or_none(),
    ignore_index=whole(),
    reduce_zero_label=BOOLEAN,
    img_suffix=TEXT | list_of(TEXT),
    seg_map_suffix=TEXT,
    backend_args=MAPPING.or_none(),
    data_root=PATH.or_none(),
    test_mode=BOOLEAN,
    lazy_init=BOOLEAN,
    serialize_data=BOOLEAN,
    max_refetch=whole(0),
    data_prefix=MAPPING,
    indices=INDICES,
    pipeline=PIPELINE,
    ann_file=PATH | one_of(''),
    filter_cfg=MAPPING.or_none(),
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
        img_suffix: what image files end in, or several such endings. Upper and lower case are the same, and so are
            '.jpg' and '.jpeg', '.tif' and '.tiff'. Other pictures in the folder are left out, with a warning.
        **kwargs: of mmseg's BaseSegDataset, which knows no others: data_root, data_prefix
            (``dict(img_path=..., seg_map_path=...)``, which may be one folder; without seg_map_path only with
            test_mode), seg_map_suffix ('.png'), ann_file (a text file with a name, or an image file and a label file,
            in each line), reduce_zero_label, ignore_index, pipeline, test_mode, ...

    Raises:
        ValueError: if there is no class list or two, a class name occurs twice, ``ignore_index`` is one of the classes
            or no label of a file, the image folder has no images, images and label maps do not pair up, or the
            pipeline parts them.
        FileNotFoundError: if the class list, a folder or ``ann_file`` does not exist.
    """

    def __init__(
        self,
        metainfo_file: str | None = None,
        metainfo: dict | None = None,
        img_suffix: str | Sequence[str] = '.jpg',
        **kwargs,
    ) -> None:
        if metainfo_file is not None:
            if metainfo is not None:
                raise ValueError(
                    f'{type(self).__name__}: found both metainfo_file={metainfo_file!r} and metainfo, expected one '
                    'class list. Fix: remove one of the two.'
                )
            metainfo = load_metainfo(metainfo_file)
        super().__init__(metainfo=metainfo, img_suffix=img_suffix, **kwargs)
        require_ignore_index(self.ignore_index, len(self.metainfo['classes']))
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
        pairs = self._listed_pairs() if self.ann_file else self._pairs_of_folders()
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

    def _pairs_of_folders(self) -> list[tuple[str, str | None]]:
        """Path of every image below the image folder, and of its label map."""
        folder, label_folder = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        self._require_different_files(folder, label_folder)
        files = self._files(folder)
        label_files = [] if label_folder is None else self._files(label_folder)
        found = sort_files(folder, files, self._img_suffixes, label_folder, label_files, self.seg_map_suffix)
        if not found.images:
            raise ValueError(self._describe_no_images(folder, files))
        if found.left_out:
            self._warn(
                f'{len(found.left_out)} pictures in {folder!r} are left out, since they do not end in '
                f'{self.img_suffix!r}: {count_suffixes(found.left_out)} ({some(found.left_out)}). Fix: to use them, '
                f'set img_suffix to a tuple such as {(*self._img_suffixes, osp.splitext(found.left_out[0])[1])}'
            )
        if label_folder is None:
            return [(image, None) for image in found.images]
        labels_of = self._labels_by_name(found.labels)
        self._report_shared_labels([labels_of.get(name) for name in found.images.values()], list(found.images))
        lost = sorted(set(labels_of) - set(found.images.values()))
        missing = [
            osp.join(label_folder, name + self.seg_map_suffix)
            for name in found.images.values()
            if name not in labels_of
        ]
        self._require_pairs(len(found.images), missing, [labels_of[name] for name in lost], 'label maps have no image')
        return [(image, labels_of[name]) for image, name in found.images.items()]

    def _labels_by_name(self, labels: dict[str, str]) -> dict[str, str]:
        """Path of the label map of each name."""
        path_of = {}
        for path, name in sorted(labels.items()):
            if name in path_of:
                raise ValueError(
                    f'{type(self).__name__}: found two label maps of one name, {path_of[name]} and {path}, expected '
                    'one. Fix: remove or rename one of them.'
                )
            path_of[name] = path
        return path_of

    def _listed_pairs(self) -> list[tuple[str, str | None]]:
        """Path of every image that ``ann_file`` names, and of its label map."""
        content = fileio.get(self.ann_file, backend_args=self.backend_args)
        listed = parse_list(decode_list(content, self.ann_file))
        if not listed:
            raise ValueError(
                f'{type(self).__name__}: ann_file {self.ann_file!r} is empty, expected one image name in each line.'
            )
        folder, label_folder = self.data_prefix['img_path'], self.data_prefix.get('seg_map_path')
        pairs, missing, lost = [], [], []
        for row in listed:
            image, found = self._find(folder, row.image, self._img_suffixes)
            if not found:
                lost.append(f'line {row.line}: {image}')
            labels = None
            if label_folder is not None:
                name = self._bare_name(row.image) if row.labels is None else row.labels
                labels, found = self._find(label_folder, name, [self.seg_map_suffix])
                if not found:
                    missing.append(f'line {row.line}: {labels}')
            pairs.append((image, labels))
        self._require_pairs(len(pairs), missing, lost, 'names in ann_file have no image')
        different = list(dict.fromkeys(pairs))
        self._report_shared_labels([labels for _, labels in different], [image for image, _ in different])
        repeated = len(pairs) - len(different)
        if repeated:
            self._warn(f'ann_file {self.ann_file!r} names {repeated} images again, which are used again')
        return pairs

    def _report_shared_labels(self, labels: Sequence[str | None], images: Sequence[str]) -> None:
        """Log images that have one label map, such as a.jpg and a.png: the second may be no image."""
        sharing: dict[str, list[str]] = {}
        for path, image in zip(labels, images, strict=True):
            if path is not None:
                sharing.setdefault(path, []).append(image)
        shared = {path: users for path, users in sharing.items() if len(users) > 1}
        if shared:
            path, users = next(iter(shared.items()))
            self._warn(
                f'{len(shared)} label maps belong to several images each, expected one; the first, {path}, to '
                f'{some(users)}. Fix: if one of these is no image, remove it, or correct img_suffix or ann_file'
            )

    def _find(self, folder: str, name: str, suffixes: Sequence[str]) -> tuple[str, bool]:
        """Path of a listed name and whether there is such a file; names may also be relative to data_root."""
        paths = candidates(folder, name, suffixes)
        if ending_of(name, spellings(suffixes)) and self.data_root:
            plain = [each.lstrip('/') for each in dict.fromkeys([name, name.replace('\\', '/')])]
            paths += [osp.join(root, each) for root in (folder, self.data_root) for each in plain]
        there = (path for path in paths if fileio.exists(path, backend_args=self.backend_args))
        path = next(there, None)
        return (paths[0], False) if path is None else (path, True)

    def _bare_name(self, image: str) -> str:
        """Name of a listed image without its suffix."""
        ending = ending_of(image, spellings(self._img_suffixes))
        return image[: len(image) - len(ending)]

    @property
    def _img_suffixes(self) -> tuple[str, ...]:
        return (self.img_suffix,) if isinstance(self.img_suffix, str) else tuple(self.img_suffix)

    def _warn(self, text: str) -> None:
        print_log(f'{type(self).__name__}: {text}', logger='current', level=logging.WARNING)

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
                f'{name}: ann_file {self.ann_file!r} does not exist. Expected: a text file with one image name in each '
                'line. Fix: correct the path, or leave ann_file empty to use the whole folder.'
            )

    def _require_different_files(self, folder: str, label_folder: str | None) -> None:
        """Raise if every image would be its own label map."""
        if label_folder is None or osp.normpath(folder) != osp.normpath(label_folder):
            return
        if set(spellings(self._img_suffixes)) & set(spellings([self.seg_map_suffix])):
            raise ValueError(
                f'{type(self).__name__}: images and label maps are both the files {self.seg_map_suffix!r} in '
                f'{folder!r}. Fix: set seg_map_suffix to what only label maps end in, such as "_mask.png"; images are '
                'then the other files that end in img_suffix. Or move the label maps into a folder of their own.'
            )

    def _describe_no_images(self, folder: str, files: Sequence[str]) -> str:
        """Message for a data set of length 0, telling what the folder holds instead."""
        return (
            f"{type(self).__name__}: data_prefix['img_path'] is the folder {folder!r} (data_root={self.data_root!r}); "
            f'found {count_suffixes(files) or "no file at all"}, expected images that end in {self.img_suffix!r}. Fix: '
            'correct data_prefix or img_suffix.'
        )

    def _files(self, folder: str) -> list[str]:
        """All files below a folder, relative to it."""
        return list(fileio.list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=self.backend_args))

    def _require_pairs(self, num_images: int, missing: Sequence[str], lost: Sequence[str], lost_what: str) -> None:
        """Raise one error that tells which images and label maps have no partner."""
        if not missing and not lost:
            return
        groups = ((missing, 'label maps are missing'), (lost, lost_what))
        found = '; '.join(f'{len(files)} {what}: {some(files)}' for files, what in groups if files)
        expected = f'Expected for each NAME{self._img_suffixes[0]} an image'
        if 'seg_map_path' in self.data_prefix:
            labels = osp.join(self.data_prefix['seg_map_path'], 'NAME' + self.seg_map_suffix)
            expected = f'Expected for each NAME{self._img_suffixes[0]} a label map {labels}'
        raise ValueError(
            f'{type(self).__name__}: {num_images} images in {self.data_prefix["img_path"]!r}; {found}. {expected}. '
            'Fix: complete the folders, correct data_prefix, img_suffix or seg_map_suffix, or list the names to use in '
            'ann_file.'
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
