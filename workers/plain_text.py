"""Makes text from outside (a message, a provider, a model) safe for logs and pages.

Control characters can move a terminal's cursor, set its clipboard or forge a log line. Directional marks make one word
look like another. Each becomes a replacement character. Later lines of a log message are indented, so that none looks
like the start of another message.
"""

import logging
import re
from typing import Final

#: C0 and C1 except tab and newline, DEL, line and paragraph separators, and marks that change the text's direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_INDENT: Final = "\n    "


def plain(text: str) -> str:
    """The text without control characters except tabs and newlines."""
    return _CONTROL.sub("\ufffd", text)


class PlainText(logging.Filter):
    """Cleans log records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the message and the traceback. If the arguments don't fit, let logging report its own error."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return True
        record.msg, record.args = plain(message).replace("\n", _INDENT), None
        if record.exc_info and not record.exc_text:
            record.exc_text = plain(logging.Formatter().formatException(record.exc_info))
        return True


def install(logger: logging.Logger) -> None:
    """Clean the records of all handlers of `logger`."""
    for handler in logger.handlers:
        if not any(isinstance(each, PlainText) for each in handler.filters):
            handler.addFilter(PlainText())
