"""Lists in messages."""

from collections.abc import Iterable


def some(items: Iterable[object], shown: int = 3, separator: str = ', ') -> str:
    """The first items of a list and the number of the others, such as 'a, b, c and 4 more'.

    Args:
        items: in the order of the message.
        shown: number of items to name.
        separator: text between two items.
    """
    texts = [str(item) for item in items]
    more = f' and {len(texts) - shown} more' if len(texts) > shown else ''
    return separator.join(texts[:shown]) + more
