"""The file that says that a data set is complete, ``NAME.prepared.json``: written last and read first."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmmaskformer.datasets.converters.searching import some
from mmmaskformer.formats.whole_files import write_whole


class Record(NamedTuple):
    """What a complete data set holds.

    Attributes:
        name: of the data set.
        version: of the preparation.
        images: split to number of images.
        counts: split to label to number of pixels or segments.
        targets: files that the preparation wrote, relative to the root.
    """

    name: str
    version: int
    images: Mapping[str, int]
    counts: Mapping[str, Mapping[int, int]]
    targets: list[str]

    def require_targets(self, root: Path) -> None:
        """Check that the files are there.

        Raises:
            ValueError: naming the first ones that are not.
        """
        missing = [target for target in self.targets if not (root / target).is_file()]
        if missing:
            raise ValueError(
                f'{record_path(root, self.name)}: {len(missing)} of {len(self.targets)} files that it lists are '
                f'missing in {root}: {some(missing)}. Expected all. Fix: recreate them with --overwrite, which needs '
                'the files of the publishers.'
            )


def record_path(root: Path, name: str) -> Path:
    """Where the record of a data set is."""
    return root / f'{name}.prepared.json'


def write_record(root: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    write_whole(record_path(root, record.name), json.dumps(record._asdict()) + '\n')


def read_record(root: Path, name: str, version: int | None = None) -> Record | None:
    """The record of a data set; None if it was not prepared, or by another version.

    Raises:
        ValueError: if the file is not one that `write_record` writes.
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
            f'{path}: not the record of a preparation ({error!r}). Expected the file as it was written. Fix: remove '
            'it and run the command again.'
        ) from error
    return record if version is None or record.version == version else None
