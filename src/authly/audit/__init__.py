"""The audit log: who did what to whom, when and from where.

Owns the vocabulary of events and the table ``audit_log``, which only grows until entries are too old to be kept. Knows
nothing of what the events mean to those who record them.
"""
