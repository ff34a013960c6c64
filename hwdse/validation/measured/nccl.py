"""NCCL all-reduce model inside a node against the nccl-tests measurements of vTrain."""

import math
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from hwdse.validation.measured.collective_libraries import VTRAIN, Rows, find_library, model_times
from hwdse.validation.measured.device_fabrics import find_fabric
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)

COLUMNS = ("gpu", "num_chips", "message_bytes", "out_of_place_time_s")


def validate(path: Path) -> ValidationReport:
    """Error table of the out-of-place time, by GPU and by number of chips."""
    table = read_table(path, COLUMNS)
    gpus = table.text("gpu")
    rows = Rows(
        np.full(len(table), "all_reduce"),
        table.numbers("message_bytes", at_least=0.0),
        table.numbers("num_chips", at_least=1.0, whole=True),
        np.ones(len(table)),
        table.numbers("out_of_place_time_s", at_least=0.0),
    )
    model, skipped = np.full(len(table), math.nan), Counter()
    with jax.enable_x64(True):
        for gpu in sorted(set(gpus)):
            chosen = np.array([name == gpu for name in gpus])
            fabric, found = find_fabric(gpu), find_library(gpu, VTRAIN)
            if fabric is None or found is None:
                skipped[f"no fitted costs of NCCL on {gpu}"] += int(chosen.sum())
                continue
            model[chosen] = model_times(VTRAIN, found[0], rows[chosen], fabric)
    reference = np.where(np.isnan(model), math.nan, rows.time_s)
    resolution = printed_resolution(table.text("out_of_place_time_s"))
    return build_report(
        "nccl",
        path,
        {"time": Comparison(reference, model, resolution)},
        rows_skipped=skipped,
        group_by={
            "gpu": gpus,
            "chips": [
                f"{gpu} x {chips:g}" for gpu, chips in zip(gpus, rows.num_chips, strict=True)
            ],
        },
    )
