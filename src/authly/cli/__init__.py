"""The ``authly`` command: one file for each group of subcommands.

Owns how people and scripts call Authly; what a command does is done by the package it belongs to.
"""
