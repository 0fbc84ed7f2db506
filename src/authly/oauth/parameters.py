"""The parameters of a request, as RFC 6749 reads them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl

from authly.errors import InvalidRequestError

# May be there more than once: RFC 8707, section 2.
_REPEATABLE: Final = "resource"
# More than any extension in scope defines; each costs a little.
_MOST = 100
# PostgreSQL's text has no NUL, and no parameter of any RFC has control characters.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Parameters(Mapping[str, str]):
    """Parameters by name, each with one value that is not empty.

    A parameter without a value is treated as if it were not there (RFC 6749, section 3.1). One that is there twice is
    remembered in ``repeated``: whether that can be told to the client depends on which one it is.

    Args:
        pairs: names and values in the order in which they were sent.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        resources: list[str] = []
        repeated: set[str] = set()
        names: set[str] = set()
        for name, value in pairs:
            if name == _REPEATABLE:
                if value:
                    resources.append(value)
                continue
            if name in names:
                repeated.add(name)
            names.add(name)
            if value:
                self._values[name] = value
        self.resources = tuple(dict.fromkeys(resources))
        self.repeated = frozenset(repeated)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def need(self, name: str) -> str:
        """Return a parameter that has to be there.

        Raises:
            InvalidRequestError: it is not.
        """
        if name not in self._values:
            raise InvalidRequestError(f"The parameter {name} is missing.")
        return self._values[name]

    def refuse_repeated(self) -> None:
        """Make sure that no parameter was sent twice (RFC 6749, section 3.1).

        Raises:
            InvalidRequestError: one was.
        """
        if self.repeated:
            raise InvalidRequestError("A parameter is there more than once.")

    def pairs(self) -> list[tuple[str, str]]:
        """Return all names and values."""
        return [*self._values.items(), *((_REPEATABLE, value) for value in self.resources)]


def parse_pairs(encoded: bytes) -> list[tuple[str, str]]:
    """Return names and values of a form or a query, ``application/x-www-form-urlencoded`` (RFC 6749, appendix B).

    Raises:
        InvalidRequestError: it is not UTF-8, has control characters or too many parameters.
    """
    try:
        pairs = parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except ValueError as error:
        raise InvalidRequestError("The parameters cannot be read: UTF-8, percent-encoded, at most 100.") from error
    if any(_CONTROL.search(name) or _CONTROL.search(value) for name, value in pairs):
        raise InvalidRequestError("A parameter has control characters.")
    return pairs


def parse(encoded: bytes) -> Parameters:
    """Return the parameters of a form or a query.

    Raises:
        InvalidRequestError: they cannot be read.
    """
    return Parameters(parse_pairs(encoded))
