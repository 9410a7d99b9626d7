"""Speed figures: `python -m benchmarks.speed --help`."""
