"""``authly admin``: users, clients, scopes, sessions and keys, for operators on the server.

Works on the services and the database, not over HTTP: it needs the settings that Authly runs with, and no running
Authly. What it does is recorded in the audit log as the operator's.
"""

import click

from authly.cli.admin.audit import audit
from authly.cli.admin.clients import clients
from authly.cli.admin.keys import keys
from authly.cli.admin.scopes import scopes
from authly.cli.admin.sessions import sessions
from authly.cli.admin.users import users


@click.group()
def admin() -> None:
    """Look after users, clients, scopes, sessions and keys.

    It works on the database, with the settings that Authly runs with; Authly need not run.

    \b
    Examples:
      authly admin users create --username alice --email alice@example.org
      authly admin scopes create orders:read "See your orders"
      authly admin clients create --name Shop --type confidential \\
          --redirect-uri https://shop.example.org/callback --scope openid --scope orders:read
    """


for group in (users, clients, scopes, sessions, keys, audit):
    admin.add_command(group)
