"""Pages of long lists.

A list has at most ``limit`` items and says in ``next_cursor`` where it goes on. A cursor is nothing to look into: what
it holds may change with any version.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Query
from pydantic import BaseModel

from authly.api.admin.problems import Problem

T = TypeVar("T")
Item = TypeVar("Item")
# The largest offset that PostgreSQL understands, by far.
_FURTHEST = 2**62


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next_cursor: str | None


class Paging(NamedTuple):
    """Which part of a list is asked for."""

    limit: int
    cursor: Any

    @property
    def offset(self) -> int:
        """The number of items before it, of a list whose cursors are offsets.

        Raises:
            Problem: the cursor is of another list.
        """
        if self.cursor is None:
            return 0
        if not isinstance(self.cursor, int) or not 0 <= self.cursor <= _FURTHEST:
            raise bad_cursor()
        return self.cursor

    def page(
        self,
        found: Sequence[Item],
        show: Callable[[Item], T],
        cursor_of: Callable[[Item], Any] | None = None,
    ) -> Page[T]:
        """Return the page of what was found.

        Args:
            found: items, one more than the page holds if there are more.
            show: makes of an item what is shown of it.
            cursor_of: says where the list goes on after an item; by default it goes on at an offset.
        """
        items = list(found[: self.limit])
        following = None
        if len(found) > self.limit:
            following = _encode(cursor_of(items[-1]) if cursor_of else self.offset + self.limit)
        return Page(items=[show(item) for item in items], next_cursor=following)


def paging(
    limit: Annotated[int, Query(ge=1, le=200, description="Items at most.")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=500, description="The `next_cursor` of the page before this one.")
    ] = None,
) -> Paging:
    """Return which part of a list a request asks for."""
    return Paging(limit, None if cursor is None else _decode(cursor))


def bad_cursor() -> Problem:
    """Return the problem that a cursor is none."""
    return Problem(400, "The cursor is not one that this list gave. Ask without it to begin anew.")


def _encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _decode(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise bad_cursor() from error
