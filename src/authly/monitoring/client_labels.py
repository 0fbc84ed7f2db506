"""How clients are called in metrics: not at all, or by a name that only the operator can trace back.

Client ids are public, so that a plain hash of one could be found by trying all of them; with a key it cannot. Of an
instance as a whole, so many clients have a name and no more.
"""

import hmac
import logging
from pathlib import Path
from typing import Protocol

from authly.monitoring.labels import OTHER
from authly.monitoring.multiprocess.shared_set import SharedSet

# 48 bits: two of a few hundred clients are hardly ever called alike.
_DIGITS = 12
MOST_CLIENTS = 200

_log = logging.getLogger(__name__)


class ClientLabels(Protocol):
    """Says how clients are called."""

    def of(self, client_id: str) -> str:
        """Return the label of a registered client; of nothing, nothing."""


class NoClientLabels:
    """Calls clients nothing."""

    def of(self, client_id: str) -> str:
        """Return nothing."""
        return ""


def label_of(key: bytes, client_id: str) -> str:
    """Return what a client is called.

    Args:
        key: the secret of the metrics.
        client_id: of the client.
    """
    return hmac.digest(key, client_id.encode(), "sha256").hex()[:_DIGITS]


class HashedClientLabels:
    """Calls so many clients by a keyed hash of their id, and all others ``other``.

    Args:
        key: the secret of the metrics.
        directory: of the metric files; None where this process keeps its metrics to itself.
        most: how many clients have a name.
    """

    def __init__(self, key: bytes, directory: Path | None, most: int = MOST_CLIENTS) -> None:
        self._key = key
        self._admitted = SharedSet(directory, "clients", most)
        self._labels: dict[str, str] = {}

    def of(self, client_id: str) -> str:
        """Return the label of a registered client; of nothing, nothing. Never raises."""
        if not client_id:
            return ""
        label = self._labels.get(client_id)
        if label is None:
            label = label_of(self._key, client_id)
            if not self._is_admitted(label):
                return OTHER
            self._labels[client_id] = label
        return label

    def _is_admitted(self, label: str) -> bool:
        try:
            return self._admitted.add(label)
        except OSError as error:
            _log.warning("Which clients have a name is kept by this process alone: %s", error)
            return self._admitted.add(label)
