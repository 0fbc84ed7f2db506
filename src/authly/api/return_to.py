"""Where a person goes after the page they were sent to: to a path of this server, and nowhere else."""

import re
from urllib.parse import quote

from starlette.datastructures import URL

HOME = "/account"
# A slash, and then none and no backslash, which browsers take for one. Nothing that browsers drop or escape.
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_LONGEST = 8192


def safe_target(target: str | None) -> str:
    """Return a target if it is a path of this server, else that of the account page."""
    return target if target and len(target) <= _LONGEST and _PATH.fullmatch(target) else HOME


def login_url(url: URL) -> str:
    """Return the address of the login page that leads back to a page."""
    target = f"{url.path}?{url.query}" if url.query else url.path
    return f"/login?return_to={quote(target, safe='')}"
