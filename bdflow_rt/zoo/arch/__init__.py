"""One torch-free file per architecture: its configuration, and what follows from that by arithmetic."""
