"""OpenID Connect: telling applications who the user is, and when that ends.

Owns authentication requests and what has to happen before one is answered, ID tokens, claims, userinfo, the
configuration document, and logout. Codes, grants, clients and consents are ``authly.oauth``; users, their sessions and
how they prove who they are, is ``authly.users`` and ``authly.sessions``.
"""
