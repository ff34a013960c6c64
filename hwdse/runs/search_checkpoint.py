"""Checkpoint of a search in its run folder: the batches of its log, so that it can continue.

Written at most every few seconds and when the search is stopped, and removed at its end. The hash
of the run is part of it: the checkpoint of another problem is ignored, as is a damaged one.
"""

import io
import json
import time
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.runs.atomic_files import replacing

if TYPE_CHECKING:
    from hwdse.runs.run_folder import Run
    from hwdse.search.evaluation.search_log import Batch, SearchLog

CHECKPOINT_NAME = "checkpoint.npz"
INTERVAL_S = 10.0
"""Shortest time between two checkpoints of a running search."""
CONTENTS = "contents"
"""Array of JSON text: hash of the run, elapsed time, names of the batches with their lengths."""


class SearchCheckpoint:
    """Checkpoint of one run folder."""

    def __init__(self, record: "Run") -> None:
        self._path = record.folder / CHECKPOINT_NAME
        self._hash = record.config_hash
        self._saved = time.monotonic()

    def load(self) -> tuple["dict[str, Batch]", float]:
        """Batches and elapsed seconds of the stopped search; none without a valid checkpoint."""
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as arrays:
                contents = json.loads(str(arrays[CONTENTS]))
                if contents["hash"] != self._hash:
                    return {}, 0.0
                batches = {
                    name: tuple(arrays[f"{index}.{part}"] for part in range(length))
                    for index, (name, length) in enumerate(contents["batches"])
                }
                return batches, float(contents["elapsed_s"])
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
            return {}, 0.0

    def save(self, log: "SearchLog", elapsed_s: float) -> None:
        """Write all batches of a log."""
        batches = log.batches()
        contents = {
            "hash": self._hash,
            "elapsed_s": elapsed_s,
            "batches": [[name, len(batch)] for name, batch in batches.items()],
        }
        arrays: dict[str, Any] = {
            f"{index}.{part}": array
            for index, batch in enumerate(batches.values())
            for part, array in enumerate(batch)
        }
        arrays[CONTENTS] = np.array(json.dumps(contents))
        with replacing(self._path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        self._saved = time.monotonic()

    def save_if_due(self, log: "SearchLog", elapsed_s: float) -> None:
        """Write the log if the last checkpoint is old enough."""
        if time.monotonic() - self._saved >= INTERVAL_S:
            self.save(log, elapsed_s)

    def remove(self) -> None:
        """Remove the checkpoint of a search that has ended."""
        self._path.unlink(missing_ok=True)
