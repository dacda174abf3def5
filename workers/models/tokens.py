"""Estimates a body's tokens before the call: an expected number, and a ceiling that is never exceeded.

The expected number paces the quota. It is a tokenizer's count if `toktok-rs` is installed and loaded, else the prompt's
bytes divided by the average bytes a token; calibration.py corrects either by what the model has counted so far. The
ceiling is what a budget holds: a byte-level vocabulary makes at most one token a byte.

Nothing here raises, whatever the body contains. What cannot be read counts by the size of its JSON.
"""

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from limits.counting import Estimate
from workers.models.calibration import UNKNOWN, Ratio, Ratios
from workers.providers import bodies

__all__ = ["Ratio", "Ratios", "ceiling", "count", "estimate", "load_tokenizer"]

log = logging.getLogger(__name__)

#: UTF-8 bytes a token, measured against o200k: within a few per cent for prose in any script, except that Cyrillic is
#: overestimated by half.
BYTES_PER_TOKEN: Final = 4.0

#: The same for text that is mostly JSON.
JSON_BYTES_PER_TOKEN: Final = 2.8

#: A text counts as JSON if more than this share of its characters is JSON's punctuation. Prose and code have 1 to 4 %,
#: JSON of long sentences 12 % (and still 4 bytes a token), records 23 % and more.
JSON_DENSITY: Final = 0.15
_PUNCTUATION: Final = '{}[]":,'

#: The characters of a text that are checked for punctuation.
_SAMPLE: Final = 4_096

#: In a text shorter than this, punctuation proves nothing. Characters.
_LEAST_SAMPLE: Final = 128

#: The longest prompt for the tokenizer, since it runs on the event loop. Text takes 5 to 15 ns a byte, at most half a
#: millisecond. Random letters take up to 180 ns, so 6 ms.
MAX_TOKENIZED_BYTES: Final = 32_768

#: One vocabulary for all models: each takes 60 MB, and calibration corrects the difference.
_ENCODING: Final = "o200k_base"

#: Framing of a message: 3 tokens, and 1 for its role
#: (https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken).
MESSAGE_TOKENS: Final = 4

#: The same at most, for other chat templates (Llama's has 5 tokens a message).
MESSAGE_CEILING: Final = 16

#: Tokens around a prompt at most: the beginning of the answer, and a template's default system prompt.
PROMPT_CEILING: Final = 256

#: Instructions that a provider adds if there are tools, typically.
TOOLS_TOKENS: Final = 300

#: The same at most: Anthropic adds up to 735 tokens
#: (https://docs.claude.com/en/docs/agents-and-tools/tool-use/overview#pricing).
TOOLS_CEILING: Final = 1_024

#: An image of 1,024 x 1,024 pixels: 765 on gpt-4o (85 + 170 a tile of 512), 1,024 on gpt-4.1 (patches of 32),
#: 1,398 on Claude (width x height / 750).
IMAGE_TOKENS: Final = 1_000

#: Claude's largest image, in high resolution (https://docs.claude.com/en/docs/build-with-claude/vision).
IMAGE_CEILING_MESSAGES: Final = 4_784

#: OpenAI's largest image: 10,000 patches at the highest factor, 2.46
#: (https://platform.openai.com/docs/guides/images-vision#calculating-costs).
IMAGE_CEILING: Final = 24_600

#: The largest image on gpt-4o-mini: 2,833 + 5,667 for each of 8 tiles (the same page).
IMAGE_CEILING_4O_MINI: Final = 48_169

#: Bytes of an attached file a token: a page of PDF has some 100 kB and 2,000 tokens.
FILE_BYTES_PER_TOKEN: Final = 50

#: The most tokens of what cannot be read here (an earlier response, a file, a hosted tool's findings): the widest
#: common context window, 1 M tokens, with the answer on top.
WINDOW: Final = 1_050_000

_count_batch: Callable[..., list[int]] | None = None


def load_tokenizer() -> bool:
    """Load the tokenizer once a process. Returns False if `toktok-rs` is not installed or cannot be used.

    Takes 0.6 s and 65 MB, so a worker loads it before its event loop runs. Without it, texts count by their bytes.
    """
    global _count_batch  # noqa: PLW0603  # a process has one tokenizer
    if _count_batch is not None:
        return True
    try:
        count: Callable[..., list[int]] = importlib.import_module("toktok").batch_count
        count([""], _ENCODING, threads=1)
    except ModuleNotFoundError as exc:
        log.debug("no tokenizer, texts count by their bytes: %s", exc)
        return False
    except Exception as exc:  # it is optional, so no error in it may keep a worker from starting
        log.warning("the tokenizer cannot be used, texts count by their bytes: %r", exc, exc_info=True)
        return False
    _count_batch = count
    return True


def estimate(
    url: str,
    body: Any,
    *,
    model: str,
    output_default: int,
    ratios: Ratios | None = None,
    window: int = WINDOW,
) -> Estimate:
    """The estimate of a call's tokens before it is made.

    `model` is `provider/model`, under which `ratios` learns. `output_default` is the ceiling of one answer if
    the body sets none. `window` bounds the prompt if the body refers to content that it doesn't contain.
    """
    prompt = _prompt(url, body)
    sizes = [_size(text) for text in prompt.texts]
    counted = _count(prompt, sizes)
    media = bool(prompt.images or prompt.files)
    ratio = ratios.of(model, media=media) if ratios is not None else UNKNOWN
    readable = isinstance(body, Mapping)
    stated = bodies.output_ceiling(url, body) if readable else None
    answers = bodies.choices(url, body) if readable else 1
    most = _ceiling(prompt, sum(sizes), url, model, window)
    return Estimate(
        input=min(max(round(counted * ratio.correction), 1), most),
        input_ceiling=most,
        output_ceiling=output_default * answers if stated is None else stated,
        max_tokens=stated,
        output=0 if url == bodies.EMBEDDINGS else ratio.forecast,
        # Hidden content says nothing about how well the body was counted.
        counted=0 if prompt.hidden else counted,
        media=media,
    )


def count(url: str, body: Any) -> int:
    """The input tokens that the provider will probably count, before calibration."""
    prompt = _prompt(url, body)
    return _count(prompt, [_size(text) for text in prompt.texts])


def ceiling(url: str, body: Any, *, model: str = "", window: int = WINDOW) -> int:
    """The input tokens that a call cannot exceed: a token for each byte of text, and the most for everything else.

    A file, an earlier response or a hosted tool's findings fit into the model's `window`, and that is all that is known
    of them. A hosted tool that calls the model several times in one request can exceed even that.
    """
    prompt = _prompt(url, body)
    return _ceiling(prompt, sum(map(_size, prompt.texts)), url, model, window)


def _prompt(url: str, body: Any) -> bodies.Prompt:
    if isinstance(body, Mapping):
        try:
            return bodies.prompt(url, body)
        except (RecursionError, TypeError, ValueError, AttributeError):
            # Nested deeper than Python's stack, or of types that no wire format has: count every byte as text.
            log.debug("a body of %s cannot be read; it counts by its size", url)
    return bodies.Prompt(texts=("?" * _json_size(body),), messages=1)


def _count(prompt: bodies.Prompt, sizes: list[int]) -> int:
    tokens = _tokenized(prompt.texts) if sum(sizes) <= MAX_TOKENIZED_BYTES else None
    if tokens is None:
        tokens = round(sum(map(_tokens_by_size, prompt.texts, sizes)))
    tokens += prompt.token_ids + MESSAGE_TOKENS * prompt.messages + prompt.images * IMAGE_TOKENS
    if prompt.tools:
        tokens += TOOLS_TOKENS + round(len(prompt.tools) / BYTES_PER_TOKEN)
    return tokens + prompt.file_bytes // FILE_BYTES_PER_TOKEN


def _ceiling(prompt: bodies.Prompt, size: int, url: str, model: str, window: int) -> int:
    most = size + prompt.token_ids + PROMPT_CEILING + MESSAGE_CEILING * prompt.messages
    if prompt.tools:
        most += TOOLS_CEILING + len(prompt.tools)
    if prompt.images:
        most += prompt.images * _image_ceiling(url, model)
    if prompt.hidden or prompt.files:
        # Compressed files hold more text than bytes.
        most = max(most, window)
    return most


def _image_ceiling(url: str, model: str) -> int:
    if url == bodies.MESSAGES:
        return IMAGE_CEILING_MESSAGES
    return IMAGE_CEILING_4O_MINI if "4o-mini" in model else IMAGE_CEILING


def _tokenized(texts: tuple[str, ...]) -> int | None:
    if _count_batch is None:
        return None
    try:
        return sum(_count_batch(texts, _ENCODING, threads=1))
    except (UnicodeEncodeError, TypeError):  # half of a surrogate pair is not text
        return None


def _tokens_by_size(text: str, size: int) -> float:
    if len(text) < _LEAST_SAMPLE:
        return size / BYTES_PER_TOKEN
    sample = text[:_SAMPLE]
    heavy = sum(map(sample.count, _PUNCTUATION)) > JSON_DENSITY * len(sample)
    return size / (JSON_BYTES_PER_TOKEN if heavy else BYTES_PER_TOKEN)


def _size(text: str) -> int:
    """UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _json_size(value: Any) -> int:
    """An upper bound for the bytes of a value's JSON, of any depth and type."""
    size, left = 0, [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            size += 2 + 6 * len(item)  # \u0000 is the longest escape; four bytes of UTF-8 are shorter
        elif isinstance(item, Mapping):
            size += 2 + 2 * len(item)
            left.extend(item.keys())
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            size += 2 + len(item)
            left.extend(item)
        elif isinstance(item, int):
            size += 6 + item.bit_length()
        else:
            size += 32  # null, or a float with at most 24 characters
    return size
