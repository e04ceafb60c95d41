"""Variables that a config overrides without effect, since the config that it inherits from has already used them.

mmengine executes a base before the file that inherits it: with ``num_classes = 4`` in a file whose base builds its
model from ``num_classes = 9``, the model keeps 9 classes.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mmmaskformer.run_settings import keys_of_runs, places_of

BASE = '_base_'


class Source(NamedTuple):
    """A config file and those that it inherits from.

    Attributes:
        path: path of the file.
        set: names that it assigns, each with the last assigned expression.
        read: names whose own value it reads.
        read_of_bases: names that it reads from its bases, as in ``_base_.num_classes``.
        bases: the sources of its bases.
    """

    path: Path
    set: dict[str, ast.expr]
    read: set[str]
    read_of_bases: set[str]
    bases: list['Source']

    def inherited(self) -> Iterator['Source']:
        """All files that it inherits from, each after those that inherit it."""
        for base in self.bases:
            yield base
            yield from base.inherited()


def read_source(path: Path) -> Source | None:
    """Parse a config file and its bases.

    Args:
        path: path of the file.

    Returns:
        The file and its bases; None if it is missing or not a Python file.
    """
    if path.suffix != '.py' or not path.is_file():
        return None
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    nodes = list(ast.walk(tree))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    of_bases = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == BASE
    }
    of_bases |= {name for name in assigned if f'{{{{{BASE}.{name}' in text}
    return Source(path, assigned, read, of_bases, _bases_of(path, assigned.get(BASE)))


def _bases_of(path: Path, value: ast.expr | None) -> list[Source]:
    """The bases in a literal; those of other packages ('mmdet::…') are not followed."""
    try:
        names = [] if value is None else ast.literal_eval(value)
    except ValueError:
        names = []
    names = [names] if isinstance(names, str) else names
    found = (read_source(path.parent / name) for name in names if isinstance(name, str) and '::' not in name)
    return [source for source in found if source is not None]


def unused_variables(path: str | Path, cfg: Mapping) -> list[str]:
    """Messages about variables that a config overrides without effect.

    Args:
        path: path of the config file.
        cfg: the complete config, in which the messages find the entries to set instead.
    """
    source = read_source(Path(path))
    if source is None:
        return []
    messages, read_by_runs = [], {BASE, *keys_of_runs()}
    below: set[str] = set()  # names that the files below a file read from it
    for file in (source, *source.inherited()):
        for name, value in file.set.items():
            if name in read_by_runs or name in file.read or name in below:
                continue
            user = _user_of_another_value(file, name, value)
            if user is not None:
                places = places_of(cfg, name)
                fix = f'set {" and ".join(places)}' if places else f'set the entries that {user.name} derives from it'
                messages.append(
                    f'config: {file.path.name} sets {name}, but {user.name}, from which it inherits, has already used '
                    f'another value, and nothing uses this one. Fix: {fix}, or remove it.'
                )
        below |= file.read_of_bases
    return messages


def _user_of_another_value(file: Source, name: str, value: ast.expr) -> Path | None:
    """The inherited file that uses another value of a variable; None if there is none."""
    users = [
        base for base in file.inherited() if name in base.read_of_bases or (name in base.set and name in base.read)
    ]
    values = [base.set[name] for base in file.inherited() if name in base.set]
    if not users or all(ast.unparse(other) == ast.unparse(value) for other in values):
        return None
    return users[0].path
