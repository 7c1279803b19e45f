"""Benchmarks: quality through real files, latency, and the demo. Results are JSON in bench/results."""
