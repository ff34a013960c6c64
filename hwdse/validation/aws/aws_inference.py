"""Language models served on Trainium and Inferentia against published latencies.

Runs of a static batch: every sequence of the batch is prefilled together, then all decode. A rank
of the Neuron stacks is a NeuronCore, or a logical one of two; all ranks form one ring
(`neuron_jobs`). Decoding
reads the whole compiled window of keys, `seq_len`, whatever it holds; prompts are padded to a
bucket, a power of two. Rows whose notes call them suspect are a group of their own.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_system
from hwdse.config.design.serving_files import load_engine_file
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.stacking import stacked
from hwdse.serving.steps.step_power import fabric_of, step_run
from hwdse.specs.serving.engine import (
    ServingDesign,
    ServingEngine,
    ServingFormats,
    ServingStrategy,
)
from hwdse.specs.serving.requests import StepLoad
from hwdse.validation.aws.neuron_jobs import core_of, degree
from hwdse.validation.serving.served_formats import preset_of_model, served_model
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError
from hwdse.validation.training.training_cells import cell_number
from hwdse.workload.transformer.model_config import Transformer

ENGINE = "neuron"
COLUMNS = (
    "case_id", "domain", "model", "detail", "chip", "instance", "chips", "cores", "parallelism",
    "precision", "weight_dtype", "batch", "seq_len", "input_len", "output_len", "metric", "value",
    "unit", "software", "notes",
)  # fmt: skip
SERVERS: Mapping[str, str] = MappingProxyType(
    {
        "inferentia2": "inf2_48xlarge",
        "trainium1": "trn1_32xlarge",
        "trainium2": "trn2_48xlarge",
        "trainium3": "trn3_ultraserver",
    }
)
"""Preset of configs/systems by chip."""
FIRST = ("ttft_p50",)
EACH = ("tpot_p50",)
SMALLEST_BUCKET = 128.0
"""Least tokens that a prompt is padded to (Neuron documentation, context encoding buckets)."""


class BatchJob(NamedTuple):
    """A static batch on a server, in cores."""

    model: Transformer
    design: ServingDesign
    prefill: StepLoad
    decode: StepLoad


@cache
def engine_of_presets() -> ServingEngine:
    """Constants of the Neuron stack."""
    return load_engine_file(ENGINE).engine


def _bits(text: str) -> float:
    """Bits per weight by the format of the weights."""
    return 8.0 if re.search("int8|fp8", text.lower()) else 16.0


def problem_of(row: Mapping[str, str]) -> str | None:
    """Reason why the model cannot represent a row; None if it can."""
    if row["chip"].lower() not in SERVERS:
        return f"chip {row['chip']}: not a Trainium or Inferentia2"
    if "guidellm" in row["software"] or "vLLM" in row["software"]:
        return "a server under load, not a static batch"
    if re.search("speculat|eagle|draft", (row["detail"] + row["notes"]).lower()):
        return "speculative decoding of unknown acceptance"
    for column in ("batch", "input_len", "output_len", "cores", "chips"):
        if not row[column]:
            return f"no {column}"
    return None


def job_of(row: Mapping[str, str]) -> BatchJob:
    """Static batch of a row for which `problem_of` returns None."""
    reason = problem_of(row)
    if reason is not None:
        raise NoModelError(reason)
    model = served_model(preset_of_model(row["model"]))
    system = load_system(SERVERS[row["chip"].lower()])
    ranks = degree(row, "TP")
    per_chip = ranks / cell_number(row["chips"])
    core = core_of(system.chip, per_chip)
    cluster = dataclasses.replace(
        system.cluster,
        num_chips=ranks,
        topology="ring",
        torus_sizes=(ranks,),
        torus_bandwidth_fractions=(1.0,),
        torus_latency_ratios=(1.0,),
        pod_chips=system.cluster.pod_chips * per_chip,
    )
    # Rings in both directions take half the hops, and those between the cores of a chip no time.
    link = dataclasses.replace(core.link, latency_s=0.5 * core.link.latency_s / per_chip)
    bits = _bits(row["weight_dtype"])
    batch, prompt = cell_number(row["batch"]), cell_number(row["input_len"])
    window = cell_number(row["seq_len"] or str(prompt + cell_number(row["output_len"])))
    bucket = max(2.0 ** math.ceil(math.log2(prompt)), SMALLEST_BUCKET)
    prompt = min(bucket, window)
    decode = StepLoad(batch, window, 0.0, 0.5 * prompt, 0.0)
    return BatchJob(
        model,
        ServingDesign(
            chip=dataclasses.replace(core, link=link),
            cluster=cluster,
            kernels=system.kernels,
            engine=engine_of_presets(),
            formats=ServingFormats(
                dense_bits=bits, expert_bits=bits, attention_bits=bits, kv_bits=16.0
            ),
            strategy=ServingStrategy(tensor=ranks),
        ),
        prefill=StepLoad(0.0, window, batch * prompt, 0.5 * prompt, batch),
        decode=decode,
    )


def times_s(job: BatchJob) -> Any:
    """Time to the first token of all sequences, and per output token after it."""
    fabric = fabric_of(job.model, job.design)
    loads = jax.tree.map(
        lambda a, b: jnp.stack([jnp.asarray(a, float), jnp.asarray(b, float)]),
        job.prefill,
        job.decode,
    )
    steps = jax.vmap(lambda load: step_run(job.model, load, job.design, fabric).times.step_s)(loads)
    return job.design.engine.request_host_s + steps[0], steps[1]


def all_times_s(jobs: list[BatchJob]) -> np.ndarray:
    """Times of all jobs: one row each."""
    groups: dict[Any, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(jax.tree.structure(job), []).append(index)
    found = np.zeros((len(jobs), 2))
    with jax.enable_x64(True):
        for rows in groups.values():
            first, each = _program()(stacked([jobs[i] for i in rows]))
            found[rows, 0], found[rows, 1] = np.asarray(first), np.asarray(each)
    return found


@cache
def _program() -> Any:
    return quick_jit(jax.vmap(times_s))


def validate(path: Path) -> ValidationReport:
    """Error table of a file: time to first token, time per output token."""
    table = read_table(path, COLUMNS)
    cells = {name: table.text(name) for name in table.columns}
    rows = [{name: texts[i] for name, texts in cells.items()} for i in range(len(table))]
    skipped: dict[str, int] = {}
    jobs: list[BatchJob] = []
    index: list[int] = []
    for i, row in enumerate(rows):
        if row["domain"] != "inference" or row["metric"] not in (*FIRST, *EACH):
            continue
        try:
            jobs.append(job_of(row))
            index.append(i)
        except NoModelError as reason:
            skipped[str(reason)] = skipped.get(str(reason), 0) + 1
    found = all_times_s(jobs) if jobs else np.zeros((0, 2))
    is_suspect = [bool(re.search("suspect|inconsistent", row["notes"])) for row in rows]
    values = table.numbers("value", may_be_empty=True)
    comparisons = {}
    for name, metrics, column in (("ttft", FIRST, 0), ("tpot", EACH, 1)):
        measured = np.full(len(rows), np.nan)
        modeled = np.full(len(rows), np.nan)
        for place, i in enumerate(index):
            if rows[i]["metric"] in metrics and not is_suspect[i]:
                measured[i], modeled[i] = 1e-3 * values[i], found[place, column]
        comparisons[name] = Comparison(measured, modeled)
    return build_report(
        "aws inference",
        path,
        comparisons,
        rows_skipped={**skipped, "the notes call the row suspect": sum(is_suspect)},
        group_by={"chip": table.text("chip"), "model": table.text("model")},
    )
