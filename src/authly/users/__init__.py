"""Users: who can log in, how they prove who they are, and what is known about them.

Owns the tables ``users``, ``credentials``, ``known_devices`` and ``login_failures``: accounts, passwords, and the
delays that guessing meets. Does not own sessions, and knows nothing of OAuth.
"""
