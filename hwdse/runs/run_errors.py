"""Errors of run folders and sweeps; each message is one line for the user."""


class RunError(ValueError):
    """Run folder or run that cannot be used as requested."""


class NoFeasibleDesignError(RunError):
    """Run without a feasible design."""


class StoppedRunError(RunError):
    """Run that stopped early; finished chunks are on disk and `--resume` continues."""
