"""Measures Authly's monitoring side by side with its peers: ``python -m benchmarks``, or ``make bench``.

Every comparison is made within one run, in rounds in which each side gets its turn; what counts is the median of the
rounds. Each side runs in a process of its own, because the processes' value classes and heaps must not mix.
"""
