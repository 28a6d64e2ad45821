"""Takes credentials out of texts that are kept or shown: command lines, error messages, addresses.

What has a shape is found: user and password of a URI, and parameters of its query that are named like a secret. A
secret without a shape, such as a token typed as a `--set` value, is not: secrets belong in environment variables, which
are never recorded.
"""

from __future__ import annotations

import re

REMOVED = "***"
# Greedy up to the last `@`: a password may hold `@` and `/`, which some drivers accept as they are.
_USER_AND_PASSWORD = re.compile(r"://[^\s:/@]*:\S*@")
_USER = re.compile(r"://[^\s/?#]*@")
_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:password|passwd|token|secret|key|signature)[^=&\s]*=)[^&\s\"')]+", re.IGNORECASE
)


def without_credentials(text: str) -> str:
    """The text with `***` in the place of what is recognised as a credential; rather too much than too little.

    Args:
        text: anything; `https://me:secret@host/path` becomes `https://***@host/path`.
    """
    for pattern in (_USER_AND_PASSWORD, _USER):
        text = pattern.sub(f"://{REMOVED}@", text)
    return _PARAMETER.sub(rf"\1{REMOVED}", text)
