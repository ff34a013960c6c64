"""Errors of runs: each message is one line for the user."""


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message is one line for its user."""


class NoFeasibleDesignError(RunError):
    """A run that holds no design within its limits."""


class StoppedRunError(RunError):
    """A run that stopped before its end; what is finished is on disk, and `--resume` continues."""
