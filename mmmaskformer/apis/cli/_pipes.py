"""What happens when nobody reads the output any more, as in ``mmmaskformer models | head``."""

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STATUS = 141
"""Of a process that a shell sees end by SIGPIPE."""


@contextmanager
def errors_of_logging() -> Iterator[None]:
    """Inside, a log line that nobody reads ends the command; `logging` would print a traceback and go on."""
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
    """Whether standard output is a pipe that nobody reads."""
    if not hasattr(select, 'poll'):  # on Windows a broken pipe of another kind is not told apart
        return True
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def close_output() -> None:
    """Let what is still to be written go nowhere, so that the interpreter does not complain when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
