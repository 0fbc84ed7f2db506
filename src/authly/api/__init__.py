"""The HTTP edge: routers, middleware, and what turns results and errors into responses.

Owns nothing that outlives a request; services and resources are handed to it by ``authly.app``.
"""
