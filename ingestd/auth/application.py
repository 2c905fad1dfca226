"""The application's own word: whether somebody may publish or watch, asked by POST, and remembered a while.

2xx is yes, 401 and 403 are no; anything else is no answer, and ``auth.when_down`` says what then holds.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from enum import Enum
from typing import Literal, TypeAlias

import httpx
import structlog
import trio
from attrs import field, frozen

from ingestd.config import Auth
from ingestd.errors import IngestdError

log = structlog.get_logger(__name__)

MAX_ANSWERS = 10_000
"""Answers that are remembered; of more, the one that was not used for the longest is forgotten."""
MAX_QUESTIONS = 32
"""Questions under way at a time; others wait, and their waiting counts as the application's."""
_MAX_BODY = 64 * 2**10
_YES = range(200, 300)
_NO = (401, 403)

Action: TypeAlias = Literal["publish", "watch"]


class ApplicationDown(IngestdError):
    """The application gave no answer, and ``auth.when_down`` is "deny"."""


class _Answer(Enum):
    YES = "yes"
    NO = "no"


@frozen(slots=True)
class Question:
    """What is asked. *secret* is the stream key or the viewer's token, *remote* the client's address."""

    action: Action
    stream: str
    remote: str
    secret: str | None = field(default=None, repr=False)

    @property
    def body(self) -> dict[str, str]:
        """The JSON object that the application gets."""
        body: dict[str, str] = {"action": self.action, "stream": self.stream, "remote": self.remote}
        if self.secret is not None:
            body["key" if self.action == "publish" else "token"] = self.secret
        return body

    @property
    def digest(self) -> bytes:
        """What the answer is remembered by: no secret."""
        parts = [self.action, self.stream, self.remote, *([] if self.secret is None else [self.secret])]
        raw = [part.encode("utf-8", "surrogatepass") for part in parts]
        sized = b"".join(len(part).to_bytes(4, "big") + part for part in raw)
        return hashlib.sha256(sized).digest()


class Application:
    """Asks at ``auth.url`` over *http*, whose redirects must be off."""

    def __init__(self, config: Auth, http: httpx.AsyncClient) -> None:
        self._config = config
        self._http = http
        self._limiter = trio.CapacityLimiter(MAX_QUESTIONS)
        self._answers: OrderedDict[bytes, tuple[_Answer, float]] = OrderedDict()

    async def may(self, question: Question) -> bool:
        """The answer, from memory if there is a fresh one. Raises `ApplicationDown`."""
        remembered = self._answers.get(question.digest)
        if remembered is not None and remembered[1] > trio.current_time():
            self._answers.move_to_end(question.digest)
            return remembered[0] is _Answer.YES
        trouble = "no answer in time"
        with trio.move_on_after(self._config.timeout):
            async with self._limiter:
                answer = await self._ask(question)
            if isinstance(answer, _Answer):
                self._remember(question, answer)
                return answer is _Answer.YES
            trouble = answer
        log.error(
            "application_down",
            action=question.action,
            stream=question.stream,
            cause=trouble,
            decision=self._config.when_down,
        )
        if self._config.when_down == "deny":
            raise ApplicationDown("the application cannot be asked")
        return True

    async def _ask(self, question: Question) -> _Answer | str:
        """Yes, no, or what went wrong; never with anything that the application sent."""
        try:
            async with self._http.stream("POST", self._config.url, json=question.body) as response:
                status, size = response.status_code, 0
                # Read to its end, so that the connection can be kept; the status is all that counts.
                async for piece in response.aiter_raw():
                    size += len(piece)
                    if size > _MAX_BODY:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__
        if status in _YES:
            return _Answer.YES
        return _Answer.NO if status in _NO else f"status {status}"

    def _remember(self, question: Question, answer: _Answer) -> None:
        seconds = self._config.cache if answer is _Answer.YES else self._config.cache_refused
        if seconds:
            self._answers[question.digest] = answer, trio.current_time() + seconds
            self._answers.move_to_end(question.digest)
            if len(self._answers) > MAX_ANSWERS:
                self._answers.popitem(last=False)
