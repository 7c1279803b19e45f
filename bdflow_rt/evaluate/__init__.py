"""Measures a model: quality, agreement of the backends, and what its graphs and engines are made of."""
