"""Whether a refusal is about the account, one model or one prompt.

| what is refused | recognized by | what follows |
|-----------------|-|--------------|
| the account | a code of `CERTAIN` | it is blocked at once |
| the account | 401, 402, 403, words such as "API key expired" | it is blocked once a second job is refused as well |
| one model | `model_not_found`, "does not have access to model"  | the job fails |
| one prompt | moderation's codes | the job fails |

Words alone never block an account, since a message may quote the prompt.
"""

import re
from http import HTTPStatus
from typing import Final

from workers.providers.error_body import ErrorBody

#: Codes that can only mean that the account takes no calls, in lower case.
CERTAIN: Final = frozenset({
    # OpenAI
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "account_deactivated",
    "access_terminated",
    # Anthropic
    "billing_error",
    "enforced_spend_limit_reached",
    "spend_limit_exceeded",
    # Groq
    "organization_restricted",
    # Moonshot: platform.moonshot.ai/docs, "Error Handling"
    "exceeded_current_quota_error",
    # Alibaba Model Studio: help.aliyun.com/zh/model-studio/error-code
    "arrearage",
    "allocationquota.freetieronly",
    # Fireworks, and gateways that use the same names
    "account_suspended",
    "insufficient_balance",
})  # fmt: skip

# Codes that probably mean the account. A proxy's spent budget (LiteLLM's `budget_exceeded`) may be one user's or one
# model's.
_SUSPECT_CODES: Final = frozenset({
    "budget_exceeded",
    "expired_api_key",
    "invalid_api_key",
    "api_key_invalid",
    "organization_disabled",
    "precondition_failed",
})  # fmt: skip

# What can be shut, as messages name it.
_HOLDER: Final = r"(?:organi[sz]ation|account|workspace|project|team|consumer|subscription|api[ _-]?key)"
# How messages say that it is shut.
_SHUT: Final = (
    r"(?:restricted|suspended|disabled|deactivated|terminated|blocked|locked|banned|expired|revoked|inactive)"
)

# Words that mean the account. Anthropic answers a used-up balance or spend cap with a 400 `invalid_request_error` or
# a 429 `rate_limit_error`, and only the words differ from an ordinary one. Gemini says "exceeded your current quota,
# please check your plan" in every 429, so only a limit of 0 counts.
_WORDS: Final = re.compile(
    r"credit balance is too low|specified (?:API|workspace) usage limits|spend(?:ing)? (?:limit|cap)"
    r"|insufficient (?:account )?(?:balance|credits?|funds|quota)|requires more credits"
    r"|(?:out of|used all (?:available|of your)|no more) credits"
    r"|Quota exceeded for [^\n]{0,200}?\blimit: 0\b"
    rf"|\b{_HOLDER}\b[^\n.]{{0,80}}? (?:has|have|is|was)(?: been)? {_SHUT}\b"
    rf"|\bapi[ _-]?key (?:{_SHUT}|not valid|is (?:not valid|invalid))\b"
    r"|budget has been exceeded|exceededbudget|key limit exceeded"
    r"|account is in good standing|(?:enable billing|billing (?:is|has) not)",
    re.IGNORECASE,
)
# Codes and words that mean one model.
_MODEL_CODES: Final = re.compile(r"model_(?:not_found|not_available|permission\w*|access\w*)|unsupported_model")
_MODEL_WORDS: Final = re.compile(
    r"\b(?:access to|permission to (?:use|access|call)|allowed to (?:use|access|call)) (?:the )?(?:requested )?model"
    r"|\bmodel\b[^\n]{0,120}? (?:is blocked|is not (?:available|enabled|allowed)|does not exist|not found)",
    re.IGNORECASE,
)
# Codes that mean one prompt.
_PROMPT_CODES: Final = re.compile(r"content_(?:policy|filter)|moderation|safety|flagged|responsible_?ai", re.IGNORECASE)
# Statuses that mean the key, unless something else is said.
_OF_THE_KEY: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN)


def is_certain(error_body: ErrorBody) -> bool:
    """Whether the code alone is enough to block the account."""
    return error_body.code.lower() in CERTAIN


def is_shut(error_body: ErrorBody) -> bool:
    """Whether the code or the words say that the account takes no calls, whatever the status."""
    return is_certain(error_body) or error_body.code.lower() in _SUSPECT_CODES or bool(_WORDS.search(error_body.words))


def is_about_account(status: int, error_body: ErrorBody) -> bool:
    """Whether a 4xx is about the account. A 403 counts only if the provider wrote it: firewalls send it for prompts."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or is_about_request(error_body):
        return False
    if is_shut(error_body):
        return True
    return status in _OF_THE_KEY and (error_body.own or status != HTTPStatus.FORBIDDEN)


def is_about_request(error_body: ErrorBody) -> bool:
    """Whether only the model or the prompt is refused, so that the account's other calls are fine."""
    if error_body.flagged or _PROMPT_CODES.search(error_body.code):
        return True
    return bool(_MODEL_CODES.fullmatch(error_body.code) or _MODEL_WORDS.search(error_body.words))
