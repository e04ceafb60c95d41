"""The best score of a resumed run whose ``save_best`` has changed."""

from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from mmmaskformer.hosts.checkpoint_files import numbered

SCORE, FILE = 'best_score', 'best_ckpt'
"""Keys of mmengine's message hub for the only metric of ``save_best``; each of several metrics has its own."""


def take_over_best(info: MutableMapping[str, Any], keys: Sequence[str], template: str) -> Iterator[str]:
    """Move the best scores of a resumed run to where mmengine looks for those of the present ``save_best``.

    With a single metric mmengine stores a score without its name, and would compare the scores of the next metric
    with it.

    Args:
        info: runtime information of the message hub; changed.
        keys: metrics of ``save_best``.
        template: names of checkpoints, such as ``iter_{}.pth``.

    Yields:
        A message about a best checkpoint that no longer counts.
    """
    score, file = info.get(SCORE), info.get(FILE)
    own = [key for key in keys if file and numbered(f'best_{key}_{template}'.replace('/', '_')).fullmatch(_name(file))]
    if own and len(keys) > 1:
        info.setdefault(f'{SCORE}_{own[0]}', score)
        info.setdefault(f'{FILE}_{own[0]}', file)
    if len(keys) == 1 and not own:
        known = [f'{part}_{keys[0]}' for part in (SCORE, FILE)]
        if all(key in info for key in known):
            info.update({SCORE: info[known[0]], FILE: info[known[1]]})
        elif file:
            info.pop(SCORE, None)
            info.pop(FILE)
            yield (
                f'The best checkpoint of the resumed run, {_name(file)}, was not selected by save_best={keys[0]!r}. '
                'The file is kept; the best checkpoint by this metric is determined from here on.'
            )


def _name(file: str) -> str:
    return Path(file).name
