"""Who somebody is, and what that lets them do."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from attrs import field, frozen

Scope: TypeAlias = Literal["read", "publish", "admin"]
#: How somebody has shown who they are; "open": nobody was asked.
Via: TypeAlias = Literal["token", "jwt", "open"]

#: The scopes from the least to the most: each implies those before it.
SCOPES: tuple[Scope, ...] = get_args(Scope)


@frozen(slots=True)
class Identity:
    """Somebody by *name*, with the *scopes* that were given; *expires* is Unix time, None for never.

    *digest* is what the token is known by where it came from a file.
    """

    name: str
    scopes: frozenset[Scope]
    via: Via
    expires: float | None = None
    digest: bytes | None = field(default=None, repr=False)

    def may(self, scope: Scope) -> bool:
        """Whether a given scope is *scope*, or implies it: admin implies publish, publish implies read."""
        return any(SCOPES.index(given) >= SCOPES.index(scope) for given in self.scopes)

    @property
    def all_scopes(self) -> list[Scope]:
        """The given scopes and what they imply, the least first."""
        return [scope for scope in SCOPES if self.may(scope)]


#: Where the listener asks nobody.
ANYBODY = Identity("anybody", frozenset(("admin",)), "open")
