"""The `bdflow` command: `main.py` is the shell, every command has a module of its own."""
