"""Secrets in texts that are kept: the values of what is named like one.

Names are all there is to go by. What is called `password` is hidden, what is called `x` is not.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple

HIDDEN: Final = "•••"

_SECRET: Final = re.compile(
    r"pass(word|wd|phrase|code)|pwd|token|secret|(^|[_-])key$|(api|private)[_-]?key|credential"
    r"|authori[sz]ation|(^|[_-])auth$|cookie|session[_-]?id",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=1024)  # the same few parameters' names come with every job
def names_a_secret(name: str) -> bool:
    """Return whether something of that name should not be shown."""
    return _SECRET.search(name) is not None


def without_secrets(text: str) -> str:
    """Return a message or a traceback in which the values of what is named like a secret are hidden.

    So are passwords inside of URLs. Whatever else looks like `name=value` stays as it is.
    """
    patterns = _patterns()
    text = patterns.header.sub(rf"\1\2{HIDDEN}", text)
    text = patterns.quoted.sub(_hide, text)
    text = patterns.bare.sub(_hide_bare, text)
    return without_url_passwords(text)


def without_url_passwords(text: str) -> str:
    """Return a text in which the passwords inside of URLs are hidden, also of URLs that were cut behind them."""
    return _patterns().url.sub(rf"\1{HIDDEN}", text) if "://" in text else text


class _Patterns(NamedTuple):
    header: re.Pattern[str]
    quoted: re.Pattern[str]
    bare: re.Pattern[str]
    url: re.Pattern[str]


@functools.cache
def _patterns() -> _Patterns:
    """Compile what few programs need, and `import gigq` does not."""
    literal = r"""[bBrRuUfF]{0,2}(?:'(?:[^'\\\n]|\\.)*(?:'|$)|"(?:[^"\\\n]|\\.)*(?:"|$))"""
    return _Patterns(
        header=re.compile(r"""(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(\s{0,3}:\s{0,3})([^\s'"][^\r\n'"]*)"""),
        # A name, a sign, and a value in quotes: calls, dicts, JSON, dataclasses, pairs of names and values.
        quoted=re.compile(
            rf"""(?<!\w)([\w-]{{1,60}})(\s{{0,3}}[=:]\s{{0,3}}|['"]\s{{0,3}}[:,]\s{{0,3}})({literal})""", re.MULTILINE
        ),
        # A name and a value with nothing around the sign: connection strings, queries of URLs, keyword arguments.
        bare=re.compile(r"""(?<!\w)([\w-]{1,60})=([^\s,;&)}\]'"=][^\s,;&)}\]'"]*)"""),
        url=re.compile(r"""(\w://[^\s/:@'"]*:)[^\s/@'"]+?(?=@|…|\.\.\.)"""),
    )


def _hide(match: re.Match[str]) -> str:
    return match[1] + match[2] + HIDDEN if names_a_secret(match[1]) else match[0]


def _hide_bare(match: re.Match[str]) -> str:
    # `key=` alone stands in every other line of Python: sorted(…, key=len).
    return f"{match[1]}={HIDDEN}" if match[1].lower() != "key" and names_a_secret(match[1]) else match[0]
