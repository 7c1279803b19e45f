"""Training-time PyTorch modules, one file per part of the network; the architecture itself is in `bdflow.py`."""
