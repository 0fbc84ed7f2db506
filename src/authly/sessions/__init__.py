"""Sessions: that a browser is somebody's, since when, and until when.

Owns the table ``sessions`` and the value of the cookie, of which only the SHA-256 is kept. Does not own how somebody
proves who they are (:mod:`authly.users`), nor how cookies travel (:mod:`authly.api`).
"""
