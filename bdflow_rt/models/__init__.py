"""Training-time PyTorch modules: one file per architecture, `network.py` and `wire.py` for what all of them share."""
