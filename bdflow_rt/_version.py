"""The release's version, in one place: the build reads it from this file's syntax tree, without importing it."""

__version__ = "0.1.0"
