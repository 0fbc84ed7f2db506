"""The keys that Authly signs with.

Owns their life (published, signing, retiring), their place in PostgreSQL and their encryption there. What is signed,
and what the claims mean, is the business of ``authly.tokens`` and ``authly.oidc``.
"""
