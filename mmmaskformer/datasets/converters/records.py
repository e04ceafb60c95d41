"""The record of a complete dataset, ``NAME.prepared.json``, which is written last and read first."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmmaskformer.formats.messages import some
from mmmaskformer.formats.whole_files import write_whole


class Record(NamedTuple):
    """The content of a complete dataset.

    Attributes:
        name: name of the dataset.
        version: version of the preparation.
        images: number of images by split.
        counts: number of pixels or segments by split and label.
        targets: files that the preparation wrote, relative to the root.
    """

    name: str
    version: int
    images: Mapping[str, int]
    counts: Mapping[str, Mapping[int, int]]
    targets: list[str]

    def require_targets(self, root: Path) -> None:
        """Check that the files exist.

        Raises:
            ValueError: if files are missing; names the first ones.
        """
        missing = [target for target in self.targets if not (root / target).is_file()]
        if missing:
            raise ValueError(
                f'{record_path(root, self.name)}: {len(missing)} of its {len(self.targets)} files are missing in '
                f'{root}: {some(missing)}. Expected all. Fix: recreate them with --overwrite, which needs the files of '
                'the publishers.'
            )


def record_path(root: Path, name: str) -> Path:
    """Path of the record of a dataset."""
    return root / f'{name}.prepared.json'


def write_record(root: Path, record: Record) -> None:
    """Write the record atomically."""
    write_whole(record_path(root, record.name), json.dumps(record._asdict()) + '\n')


def read_record(root: Path, name: str, version: int | None = None) -> Record | None:
    """Read the record of a dataset; None if it was not prepared, or was prepared by another version.

    Raises:
        ValueError: if the file was not written by `write_record`.
    """
    path = record_path(root, name)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        counts = {
            split: {int(label): number for label, number in row.items()} for split, row in content['counts'].items()
        }
        record = Record(**content | {'counts': counts})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: not the record of a preparation ({error!r}). Expected the unchanged file. Fix: remove '
            'it and run the command again.'
        ) from error
    return record if version is None or record.version == version else None
