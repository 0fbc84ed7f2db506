"""Look at the metrics of an instance from outside it: fetch an exposition, compare two, rank what they say.

Owns where an exposition comes from (an exporter's address, its socket, the files themselves) and what is computed from
it for people. Nothing here runs in a worker or in the exporter, and how it is shown is the caller's business.
"""
