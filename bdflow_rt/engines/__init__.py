"""Engines: one small protocol, one file per backend, and the choice between them."""
