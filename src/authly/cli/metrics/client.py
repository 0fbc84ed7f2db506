"""``authly metrics client``."""

import click


@click.command()
@click.argument("client_id")
def client(client_id: str) -> None:
    """Print how a client is called in the label client_id.

    Whoever knows the secret key of an instance may know: it needs AUTHLY_SECRET_KEY, or the state directory.

    \b
    Example:
      authly metrics client 7c1f0d0a9d5e4b6c8a2f3e4d5c6b7a89
    """
    # Not at the top: the import takes longer than everything else together.
    from authly.monitoring.client_labels import label_of
    from authly.secret_keys import client_labels_key
    from authly.settings import load_settings

    settings = load_settings()
    click.echo(label_of(client_labels_key(settings), client_id))
    if not settings.metrics_include_client_ids:
        click.echo("authly: AUTHLY_METRICS_INCLUDE_CLIENT_IDS is not true here: no metric has this label.", err=True)
