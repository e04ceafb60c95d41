"""Caches slow, deterministic results within a process."""

from functools import cache

from mmengine.config import config


def remember_formatted_configs() -> None:
    """Cache mmengine's formatting of config text.

    A training run formats its config five times, for the log, the work folder, the visualizer and each checkpoint; each
    time takes about half a second.
    """
    if not hasattr(config.FormatCode, 'remembers'):
        config.FormatCode = _remembering(config.FormatCode)


def _remembering(format_code):
    @cache
    def of(text: str, *style: tuple) -> tuple[str, bool]:
        return format_code(text, style_config=dict(style))

    def remembered(text: str, style_config: dict, **more) -> tuple[str, bool]:
        return format_code(text, style_config=style_config, **more) if more else of(text, *style_config.items())

    remembered.remembers = True
    return remembered
