"""Search for images and label maps in two folders, and a check that each has its partner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import path as osp

from mmengine import fileio

from mmmaskformer.datasets.pairing import (
    candidates,
    count_suffixes,
    decode_list,
    ending_of,
    parse_list,
    sort_files,
    spellings,
)
from mmmaskformer.formats.messages import some


@dataclass(frozen=True)
class LabelledFolders:
    """The folders with the images and label maps of a dataset.

    Attributes:
        owner: class of the dataset, for messages.
        data_root: root folder of the dataset.
        data_prefix: the folders, ``img_path`` and ``seg_map_path``; the second is optional in ``test_mode``.
        ann_file: text file with a name, or an image file and a label file, in each line; '' for all files.
        img_suffix: suffix of image files, or several suffixes.
        seg_map_suffix: suffix of label maps.
        test_mode: whether label maps are optional.
        backend_args: as in `mmengine.fileio`, for files that are not on disk.
        warn: function that logs a line.
    """

    owner: str
    data_root: str | None
    data_prefix: Mapping[str, str]
    ann_file: str
    img_suffix: str | Sequence[str]
    seg_map_suffix: str
    test_mode: bool
    backend_args: dict | None
    warn: Callable[[str], None]

    def pairs(self) -> list[tuple[str, str | None]]:
        """Paths of all images and their label maps, sorted by path, or in the order of ``ann_file``.

        Raises:
            ValueError: if there are no images, or images and label maps do not pair up.
            FileNotFoundError: if a folder or ``ann_file`` does not exist.
        """
        self._require_folders()
        return self._listed_pairs() if self.ann_file else self._pairs_of_folders()

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
            self.warn(
                f'{len(found.left_out)} images in {folder!r} are ignored, since they do not end in '
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
                    f'{self.owner}: found two label maps with the same name, {path_of[name]} and {path}, expected '
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
                f'{self.owner}: ann_file {self.ann_file!r} is empty, expected one image name in each line. Fix: list '
                'the images, or leave ann_file empty to use the whole folder.'
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
            self.warn(f'ann_file {self.ann_file!r} lists {repeated} images more than once; they are used repeatedly')
        return pairs

    def _report_shared_labels(self, labels: Sequence[str | None], images: Sequence[str]) -> None:
        """Log images that share a label map, such as a.jpg and a.png, of which one may not be an image."""
        sharing: dict[str, list[str]] = {}
        for path, image in zip(labels, images, strict=True):
            if path is not None:
                sharing.setdefault(path, []).append(image)
        shared = {path: users for path, users in sharing.items() if len(users) > 1}
        if shared:
            path, users = next(iter(shared.items()))
            self.warn(
                f'{len(shared)} label maps belong to several images each, expected one; the first, {path}, to '
                f'{some(users)}. Fix: if one of these is not an image, remove it, or correct img_suffix or ann_file'
            )

    def _find(self, folder: str, name: str, suffixes: Sequence[str]) -> tuple[str, bool]:
        """Path of a listed name and whether the file exists; names may also be relative to data_root."""
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

    def _require_folders(self) -> None:
        """Raise if a folder or the list of names is missing, or label maps are missing for training."""
        name = self.owner
        if 'seg_map_path' not in self.data_prefix and not self.test_mode:
            raise ValueError(
                f"{name}: data_prefix is {self.data_prefix}, expected also 'seg_map_path', the folder of the label "
                'maps, for training. Fix: add it; it is optional only with test_mode=True.'
            )
        for key, folder in self.data_prefix.items():
            if not fileio.isdir(folder, backend_args=self.backend_args):
                without = ''
                if key == 'seg_map_path' and self.test_mode:
                    without = ' To predict without labels, omit seg_map_path.'
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
                f'{self.owner}: images and label maps are both the files {self.seg_map_suffix!r} in '
                f'{folder!r}. Fix: set seg_map_suffix to a suffix of label maps only, such as "_mask.png"; the other '
                'files with img_suffix are then the images. Or move the label maps to another folder.'
            )

    def _describe_no_images(self, folder: str, files: Sequence[str]) -> str:
        """Message for an empty dataset, with the content of the folder."""
        return (
            f"{self.owner}: data_prefix['img_path'] is the folder {folder!r} (data_root={self.data_root!r}); "
            f'found {count_suffixes(files) or "no file at all"}, expected images that end in {self.img_suffix!r}. Fix: '
            'correct data_prefix or img_suffix.'
        )

    def _files(self, folder: str) -> list[str]:
        """All files below a folder, relative to it."""
        return list(fileio.list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=self.backend_args))

    def _require_pairs(self, num_images: int, missing: Sequence[str], lost: Sequence[str], lost_what: str) -> None:
        """Raise a single error that lists images and label maps without a partner."""
        if not missing and not lost:
            return
        groups = ((missing, 'label maps are missing'), (lost, lost_what))
        found = '; '.join(f'{len(files)} {what}: {some(files)}' for files, what in groups if files)
        expected = f'Expected for each NAME{self._img_suffixes[0]} an image'
        if 'seg_map_path' in self.data_prefix:
            labels = osp.join(self.data_prefix['seg_map_path'], 'NAME' + self.seg_map_suffix)
            expected = f'Expected for each NAME{self._img_suffixes[0]} a label map {labels}'
        raise ValueError(
            f'{self.owner}: {num_images} images in {self.data_prefix["img_path"]!r}; {found}. {expected}. '
            'Fix: complete the folders, correct data_prefix, img_suffix or seg_map_suffix, or list the names to use in '
            'ann_file.'
        )
