"""From settings to the secret key, and to what is derived from it besides the keys of services."""

from authly.core import secret_key
from authly.core.secret_key import SecretKey
from authly.settings import Settings


def secret_key_of(settings: Settings) -> SecretKey:
    """Return the secret key that an operator set, or the one of the state directory.

    Raises:
        SecretKeyError: there is none, and none can be made.
    """
    if settings.secret_key is not None:
        return SecretKey(settings.secret_key.get_secret_value())
    return secret_key.read_or_create(settings.state_path)


def client_labels_key(settings: Settings) -> bytes:
    """Return the secret by which clients are called in metrics.

    Raises:
        SecretKeyError: there is no secret key, and none can be made.
    """
    return secret_key_of(settings).derive("metrics client ids")
