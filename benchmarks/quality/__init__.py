"""Quality: every federated loss on the same data, with the same budget and the same care.

``python -m benchmarks.quality`` (or ``make bench-quality``); the protocol is in results.md.j2.
"""
