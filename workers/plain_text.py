"""Text from elsewhere (a message, a provider, a model) as it may stand in a log or on a page.

Control characters move a terminal's cursor, set its clipboard, or forge a log line; directional marks make one word
look like another. Each of them becomes a replacement character. A message of several lines is indented from its second
line on, so that none of them looks like the beginning of another message.
"""

import logging
import re
from typing import Final

#: C0 and C1 but for tab and newline, DEL, line and paragraph separators, and marks that change the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_INDENT: Final = "\n    "


def plain(text: str) -> str:
    """The text without control characters; tabs and newlines stay."""
    return _CONTROL.sub("\ufffd", text)


class PlainText(logging.Filter):
    """Cleans each record that passes, for all handlers after it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean the message and the traceback; a message whose arguments don't fit is left to logging's own error."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return True
        record.msg, record.args = plain(message).replace("\n", _INDENT), None
        if record.exc_info and not record.exc_text:
            record.exc_text = plain(logging.Formatter().formatException(record.exc_info))
        return True


def install(logger: logging.Logger) -> None:
    """Have all of a logger's handlers write plain text."""
    for handler in logger.handlers:
        if not any(isinstance(each, PlainText) for each in handler.filters):
            handler.addFilter(PlainText())
