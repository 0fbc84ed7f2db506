"""What the exporter measures by itself, one collector a file.

A collector returns families; it does not know of requests or of other collectors.
"""
