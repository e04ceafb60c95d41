"""Reading of the config files that are passed to commands.

A config may import a host, so `mmmaskformer.registry` or `mmmaskformer.compat` must have repaired the installed stack.
"""

from pathlib import Path

from mmengine.config import Config

SHIPPED = Path(__file__).resolve().parents[1] / '.mim' / 'configs'
"""The shipped configs."""
SUFFIXES = ('.py', '.json', '.yaml', '.yml')


def read_config_file(path: str | Path) -> Config:
    """Read a config and those that it inherits from.

    Args:
        path: mmengine config file.

    Raises:
        FileNotFoundError: if it, or a config that it inherits from, does not exist; names the shipped config of that
            name, if there is one.
        ValueError: if it is not a config file, or cannot be executed.
        ImportError: if a module of its ``custom_imports`` cannot be imported.
    """
    if not Path(path).is_file():
        own = next(SHIPPED.resolve().rglob(Path(path).name or '.py'), 'configs/….py')
        raise FileNotFoundError(f'config {path}: no such file. Fix: pass the path of a config: {own}')
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f'config {path}: found the suffix {Path(path).suffix!r}, expected a config, a .py file')
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'config {path}: it, or a config that it inherits from, names {error.filename or error}, which does not '
            'exist. Fix: correct _base_'
        ) from error
    except ImportError:
        raise
    except Exception as error:  # a config is a program and may raise anything
        raise ValueError(
            f'config {path}: it, or a config that it inherits from, cannot be read: {_describe(error)}. Fix: correct '
            'the file'
        ) from error


def _describe(error: Exception) -> str:
    text = ' '.join(str(error).split()) or 'no message'
    if isinstance(error, SyntaxError):
        text = f'{error.msg}, line {error.lineno}: {(error.text or "").strip()}'
    return f'{type(error).__name__}: {text}'
