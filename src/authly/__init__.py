"""Authly, an OAuth 2.1 / OpenID Connect authorization server whose every layer is measured.

This module holds the version and imports nothing; use the submodules.
"""

__version__ = "0.1.0"
