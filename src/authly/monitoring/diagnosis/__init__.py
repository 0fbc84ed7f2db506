"""Find out what is wrong with an instance and its metrics, and say what to do about it.

Owns the checks: one small function for each fault, in files by subject. Looks at a directory, at processes through
``/proc``, at a Gunicorn configuration, at the exporter's address; changes nothing, and takes no lock even for a moment.
How findings are shown is the caller's business.
"""
