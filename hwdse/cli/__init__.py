"""Command line of hwdse, the only room that prints: one folder per family of commands.

Imports every other room.
"""

from hwdse.cli.main import app, main

__all__ = ["app", "main"]
