"""The command line: the only part of hwdse that prints. One file a command."""

from hwdse.cli.main import app, main

__all__ = ["app", "main"]
