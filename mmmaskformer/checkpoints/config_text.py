"""Configs stored as text in checkpoints, read without executing them: a config is Python and could run any code."""

import ast
from typing import Any

UNKNOWN = None
"""Stands for any value that is not a plain literal."""


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
