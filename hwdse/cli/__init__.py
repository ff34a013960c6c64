"""Command line of hwdse, the only package that prints: one folder per family of commands.

Imports every other package.
"""

from hwdse.cli.main import app, main

__all__ = ["app", "main"]
