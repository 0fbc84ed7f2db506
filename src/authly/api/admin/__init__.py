"""The administration interface, ``/admin/v1``: one router for each kind of thing.

Owns who may call it, paging, and problems as RFC 9457 has them. What is done is done by the services, which also record
it in the audit log.
"""
