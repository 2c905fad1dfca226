"""Names of recordings: a template with placeholders that never leads out of ``recordings/<stream>/``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ingestd.structure import did_you_mean

#: Placeholder → how long what it stands for can be.
PLACEHOLDERS: Mapping[str, int] = {
    "stream": 64,
    "pipeline": 64,
    "sink": 64,
    "session": 20,
    "date": 10,
    "time": 6,
    "part": 6,
}
_PLACEHOLDER = re.compile(r"\{([^{}]{0,40})\}")
_LITERAL = re.compile(r"[A-Za-z0-9._+=@ -]*", re.ASCII)
#: File systems take 255 bytes; the suffixes and the ``-source-1`` of raw recordings need room.
_LONGEST = 200
_DEEPEST = 8


def path_problem(template: str) -> str:
    """What is wrong with *template*, with an example; or nothing."""
    names = _PLACEHOLDER.findall(template)
    for name in names:
        if name not in PLACEHOLDERS:
            known = ", ".join(PLACEHOLDERS)
            return f"no placeholder {{{name}}} (known: {known}){did_you_mean(name, PLACEHOLDERS)}"
    example = 'expected a path like "{date}/{session}", relative to the stream\'s recordings'
    parts = template.split("/")
    if not all(_LITERAL.fullmatch(_PLACEHOLDER.sub("", part)) for part in parts):
        return f"{example}; beside placeholders it may hold A-Z a-z 0-9 . _ + = @ - and spaces"
    if not all(parts) or any(part[0] in ". -" or part[-1] in ". " for part in parts):
        return f"{example}; no part of it may be empty, begin with . - or a space, or end with . or a space"
    longest = max(sum(PLACEHOLDERS[n] for n in _PLACEHOLDER.findall(part)) + len(part) for part in parts)
    if longest > _LONGEST or len(parts) > _DEEPEST:
        return f"{example}; this one can become longer than file systems take"
    if "session" not in names and not {"date", "time"} <= set(names):
        return f"{example}; it needs {{session}}, or {{date}} and {{time}}, to tell sessions apart"
    return ""


def fill(template: str, values: Mapping[str, str]) -> str:
    """*template*, which has no `path_problem`, with *values* for its placeholders."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)
