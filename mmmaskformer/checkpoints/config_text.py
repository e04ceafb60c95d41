"""Configs stored as text in checkpoints, read without executing them: a config is Python and could run any code."""

import ast
from collections.abc import MutableMapping
from typing import Any

UNKNOWN = None
"""Stands for any value that is not a plain literal."""

PLACES = (('meta', 'config'), ('meta', 'cfg'), ('message_hub', 'runtime_info', 'cfg'))
"""Keys of a checkpoint under which OpenMMLab's packages keep a config as text, which mmengine executes."""
PLAIN = (
    ast.Module, ast.Assign, ast.Name, ast.Store, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set,
    ast.keyword, ast.UnaryOp, ast.USub,
)  # fmt: skip
"""Syntax that only writes down values."""


def read_config_text(text: str) -> dict[str, Any]:
    """The literal values of a config: numbers, strings, lists, tuples and dicts, as mmengine writes them.

    Args:
        text: the config.

    Returns:
        Values by name, `UNKNOWN` where something would have to be computed; empty if the text is not valid Python.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {
        target.id: _value(node.value)
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def lookup(values: Any, *path: str) -> Any:
    """The value at a path of keys; `UNKNOWN` if there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else UNKNOWN
    return values


def code_in_config(text: str) -> str | None:
    """The first part of a config that is more than a literal value, such as a call; None if there is none.

    mmengine writes configs as assignments of literals, and executes them when it reads them. It also replaces
    ``{{...}}`` and reads the files in ``_base_``, which it never writes.

    Args:
        text: the config.
    """
    if '{{' in text:
        return '{{'
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return str(error)
    for node in ast.walk(tree):
        is_dict = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ('dict', 'float')
        is_base = isinstance(node, ast.Name) and node.id == '_base_'
        if is_base or not (is_dict or isinstance(node, PLAIN)):
            where = f'line {node.lineno}: ' if isinstance(node, ast.expr | ast.stmt) else ''
            return where + ast.unparse(node)
    return None


def remove_code(checkpoint: Any) -> list[str]:
    """Remove stored configs that hold code from a checkpoint, so that nothing executes them.

    Args:
        checkpoint: content of a file; changed in place.

    Returns:
        For each removed config its place and the code.
    """
    removed = []
    for *path, key in PLACES:
        holder = checkpoint
        for name in path:
            holder = holder.get(name) if isinstance(holder, MutableMapping) else None
        text = holder.get(key) if isinstance(holder, MutableMapping) else None
        code = code_in_config(text) if isinstance(text, str) else None
        if code is not None:
            del holder[key]
            removed.append(f'{".".join((*path, key))}, {code}')
    return removed


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        given = [_value(argument) for argument in node.args]  # for names that are not identifiers
        named = {item.arg: _value(item.value) for item in node.keywords if item.arg}
        return {key: value for values in given if isinstance(values, dict) for key, value in values.items()} | named
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        return -number if isinstance(number, int | float) else UNKNOWN
    return UNKNOWN
