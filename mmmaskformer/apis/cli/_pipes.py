"""Handling of a closed output, as in ``mmmaskformer models | head``."""

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STATUS = 141
"""Exit status that shells report for a process killed by SIGPIPE."""


@contextmanager
def errors_of_logging() -> Iterator[None]:
    """Context in which logging to a closed output ends the command; `logging` would print a traceback and go on."""
    handle = logging.Handler.handleError

    def handle_error(self: logging.Handler, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        handle(self, record)

    logging.Handler.handleError = handle_error  # type: ignore[method-assign]
    try:
        yield
    finally:
        logging.Handler.handleError = handle  # type: ignore[method-assign]


def reader_is_gone() -> bool:
    """Whether standard output is a pipe whose reader has closed it."""
    if not hasattr(select, 'poll'):  # on Windows other kinds of broken pipes cannot be distinguished
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def close_output() -> None:
    """Discard pending output, so that the interpreter does not report an error when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
