"""Write HTML in which everything is escaped that was not written here."""

import html
from typing import Final

_VOID: Final = frozenset({"link", "meta", "wbr"})


class Markup(str):
    """Text that is HTML already; made by :func:`element` alone."""

    __slots__ = ()


Child = str | None | list["Child"]


def element(name: str, /, *children: Child, **attributes: str | None) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        *children: elements, and text, which is escaped; lists of them; None is nothing.
        **attributes: escaped too. An underscore stands for a dash, one at the end for nothing; None leaves it out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{''.join(map(_written, children))}</{name}>")


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, list):
        return "".join(map(_written, child))
    return child if isinstance(child, Markup) else html.escape(child)
