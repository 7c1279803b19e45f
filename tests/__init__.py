"""Tests mirror the tree they test; `support.py` holds what several of them share."""
