"""Unpacks archives inside a dataset; a folder gets its final name when it is complete."""

import zipfile
from pathlib import Path

from mmmaskformer.datasets.converters.progress import show_progress
from mmmaskformer.datasets.converters.recipe import Recipe
from mmmaskformer.datasets.converters.staging import rename_or_copy


def unpack(recipe: Recipe, root: Path, staging: Path) -> None:
    """Unpack the archives of a dataset that are not unpacked yet.

    Args:
        recipe: of the dataset.
        root: of the dataset.
        staging: folder for incomplete work; complete files in it are not unpacked again.

    Raises:
        ValueError: if an archive is damaged.
    """
    for archive in recipe.archives:
        path = root / archive.path
        folder = path.parent / archive.folder
        if archive.is_unpacked(root):
            continue
        staged = staging / 'unpacked'
        try:
            with zipfile.ZipFile(path) as stream:
                members = [name for name in stream.infolist() if name.filename.startswith(f'{archive.folder}/')]
                with show_progress(f'unpacking {path.name}', len(members)) as advance:
                    for member in members:
                        unpacked = staged / member.filename
                        if not unpacked.is_file() or unpacked.stat().st_size != member.file_size:
                            stream.extract(member, staged)
                        advance()
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(
                f'{recipe.title}: {path} is damaged ({error}), expected a complete zip file. Fix: download '
                f'{recipe.files} again from {recipe.address}.'
            ) from error
        rename_or_copy(staged / archive.folder, folder)
