"""What is issued: authorization codes, refresh tokens and access tokens, and the families that they belong to.

Owns issuing, redeeming, rotating, revoking and reading them, and the tables they are in. Who may have them, and for
what, has been decided by ``authly.oauth`` before it comes here.
"""
