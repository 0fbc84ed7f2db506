"""The OAuth protocol: who may ask, for what, and what is granted.

Owns clients and how they authenticate, scopes, consents, authorization codes, pushed authorization requests, and the
token pipeline with its grants. Issuing, revoking and reading tokens is ``authly.tokens``; who the user is, is
``authly.users`` and ``authly.sessions``. Knows nothing of HTTP but what the RFCs put into parameters and headers.
"""
