"""What others say, in our logs: no control characters, and no line that looks like one of ours."""

import io
import logging

from workers.plain_text import install, plain


def test_control_characters_are_replaced_and_words_stay() -> None:
    assert plain("tab\tnew\nline é 漢 🙂") == "tab\tnew\nline é 漢 🙂"
    assert plain("\x1b[2J\x9b31m\r\x07\u202eevil") == "\ufffd[2J\ufffd31m\ufffd\ufffd\ufffdevil"


def test_a_log_line_cannot_be_forged() -> None:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    logger = logging.getLogger("tests.plain")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    install(logger)
    install(logger)
    logger.warning("job %s failed: %s", "x\n[CRITICAL] forged", ValueError("\x1b]52;c;x\x07"))
    try:
        {}["a\x1b[31m"]  # the words of the error are the key's repr, which is plain already
    except KeyError as exc:
        exc.add_note("note\x1b[31m")
        logger.exception("%d%%", 5)
    logger.info("no arguments: 100%")
    lines = output.getvalue().splitlines()
    assert lines[:2] == ["[WARNING] job x", "    [CRITICAL] forged failed: \ufffd]52;c;x\ufffd"]
    assert lines[2] == "[ERROR] 5%"
    assert lines[-2] == "note\ufffd[31m"
    assert lines[-1] == "[INFO] no arguments: 100%"
    assert "\x1b" not in output.getvalue()
