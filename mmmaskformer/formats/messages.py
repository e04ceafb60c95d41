"""Lists in messages."""

from collections.abc import Iterable


def some(items: Iterable[object], shown: int = 3) -> str:
    """The first items, separated by commas, and the number of the others, such as 'a, b, c and 4 more'.

    Args:
        items: in the order of the message.
        shown: number of items to name.
    """
    texts = [str(item) for item in items]
    more = f' and {len(texts) - shown} more' if len(texts) > shown else ''
    return ', '.join(texts[:shown]) + more
