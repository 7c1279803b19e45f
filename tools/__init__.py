"""Writes the pages and charts of this repository, and releases models; not installed."""
