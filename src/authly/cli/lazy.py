"""Commands that are imported when they are called: deploy scripts wait for ``authly``, and most of it is not theirs."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group of commands that knows where each of them is.

    Args:
        commands: ``package.module:name`` of each command, by the word that calls it.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, str], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the words, in the order of the alphabet."""
        return sorted({*self._lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command that a word calls, if there is one."""
        if cmd_name in self._lazy and cmd_name not in self.commands:
            module, _, name = self._lazy[cmd_name].partition(":")
            self.add_command(getattr(importlib.import_module(module), name), cmd_name)
        return super().get_command(ctx, cmd_name)
