"""Reuse of operands by forwarding between PEs: the same operators on systolic, SIMD and
row-stationary engines.

    python experiments/systolic_vs_simd/run.py

Writes results/reuse.csv, results/eyeriss.csv, results/summary.md and results/reuse.png. About 70
CPU seconds.
"""

import csv
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from hwdse.analysis.operand_reuse import (
    EYERISS_ENERGIES,
    INSTRUCTION_MACS,
    instruction_energy_j,
    reuse_energy_j,
    row_stationary_reuse,
    simd_reuse,
    systolic_reuse,
)
from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.config.hardware.cpus import load_simd
from hwdse.core.mapper.row_stationary import row_stationary_costs
from hwdse.core.mapper.row_stationary_mapper import best_row_stationary_mapping
from hwdse.models.compute.cpu_simd import simd_costs
from hwdse.models.compute.systolic import DATAFLOWS
from hwdse.numerics.relaxation import EXACT
from hwdse.plots.plot_style import STYLE
from hwdse.plots.reuse_plots import plot_over_array_size, plot_stacked_bars
from hwdse.specs.hardware.accelerator import Accelerator, Level
from hwdse.specs.hardware.chip import Memory, SystolicArray
from hwdse.specs.hardware.cpu import SimdEngine
from hwdse.specs.mappings.row_stationary_mapping import RowStationaryMapping
from hwdse.specs.results.access_counts import AccessCounts
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.operators import Operators

HERE = pathlib.Path(__file__).parent
CHIP = HERE.parents[1] / "tests" / "data" / "eyeriss_alexnet.csv"
MAPPING_COLUMNS = (
    "strip", "channel_sets", "filter_sets", "filters", "channels", "held_filters", "held_images",
)  # fmt: skip
"""Columns of the data file in the order of the fields of `RowStationaryMapping`, first omitted."""
SIDES = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
BYTES = 2.0
"""Size of a word: all words have 16 bits."""
SHARED_BYTES = 2.0**20
"""Capacity of the scratchpad, global buffer or last-level cache of every engine."""
ENGINES = {
    "output stationary": "output_stationary_overlapped",
    "weight stationary": "weight_stationary_overlapped",
    "input stationary": "input_stationary_overlapped",
}
SIMD, ROWS = "SIMD, 128 bit", "row stationary"
ENERGIES = EYERISS_ENERGIES.replace(instruction_j=INSTRUCTION_MACS)


@dataclasses.dataclass(frozen=True)
class Job:
    """GEMM or convolution as an operator; convolutions become GEMMs by im2col."""

    name: str
    operator: Operators

    @property
    def gemm(self) -> Gemms:
        """GEMM of the operator."""
        op, one, zero = self.operator, jnp.ones(()), jnp.zeros(())
        m, k = op.p * op.q * op.n, op.r * op.s * op.c
        return Gemms(m, k, op.k, op.count, one, one, one, zero, zero)


def job(name: str, r: float, p: float, q: float, c: float, k: float, n: float = 1.0) -> Job:
    sizes = [jnp.asarray(x, float) for x in (r, r, p, q, c, k, n, 1.0, 1.0, 1.0, 1.0, 1.0)]
    return Job(name, Operators(*sizes, names=(name,)))


def make_jobs() -> list[Job]:
    return [
        job("GEMM 1024 x 1024 x 1024", 1.0, 1024.0, 1.0, 1024.0, 1024.0),
        job("BERT projection 512 x 768 x 768", 1.0, 512.0, 1.0, 768.0, 768.0),
        job("AlexNet conv3, 4 images", 3.0, 13.0, 13.0, 256.0, 384.0, 4.0),
        job("matrix-vector product 1 x 4096 x 4096", 1.0, 1.0, 1.0, 4096.0, 4096.0),
    ]


def cpu_of(side: float) -> SimdEngine:
    """CPU with Graviton2 cores, side^2 MACs per cycle in total and 1 MiB of shared cache."""
    core = load_simd("graviton2")
    per_core = core.num_fma_ports * core.vector_bytes / BYTES
    small = core.l2.replace(capacity_bytes=core.l1.capacity_bytes)
    llc = core.llc.replace(capacity_bytes=SHARED_BYTES)
    return core.replace(num_cores=side**2 / per_core, l2=small, llc=llc)


def fast(level: Level) -> Level:
    """Level with bandwidth for any mapping: the study compares words, not bandwidths."""
    return level.replace(read_bandwidth_bytes_per_s=1e15, write_bandwidth_bytes_per_s=1e15)


def eyeriss_of(side: float) -> Accelerator:
    """Eyeriss with `side` rows and columns, unchanged PE memories and 1 MiB of global buffer."""
    base = load_accelerator("eyeriss")
    scale = side**2 / (base.rows * base.cols)
    dram, shared, *spads = (fast(level) for level in base.levels)
    spads = [spad.replace(capacity_bytes=spad.capacity_bytes * scale) for spad in spads]
    shared = shared.replace(capacity_bytes=SHARED_BYTES)
    return base.replace(rows=side, cols=side, levels=(dram, shared, *spads))


def measure(job: Job, side: float) -> list[dict]:
    """One row per engine: words and energy per MAC, compute cycles."""
    gemm, macs = job.gemm, float(job.gemm.num_macs)
    scratchpad, rows = Memory(SHARED_BYTES, 1e12, 0.0), []

    def add(engine: str, words: AccessCounts, cycles: float, instructions: float = 0.0) -> None:
        per_mac = {k: float(v) / macs for k, v in vars(words).items()}
        energy = {k: float(v) / macs for k, v in vars(reuse_energy_j(words, ENERGIES)).items()}
        rows.append(
            {"job": job.name, "side": side, "engine": engine}
            | {f"{level}_words_per_mac": value for level, value in per_mac.items()}
            | {f"{level}_energy": value for level, value in energy.items()}
            | {"instruction_energy": instructions / macs, "cycles": float(cycles)}
            | {"utilization_fraction": macs / side**2 / float(cycles)}
            | {"buffer_words_per_cycle": float(words.buffer) / float(cycles)}
        )

    for engine, dataflow in ENGINES.items():
        array = SystolicArray(side, side, 1.0, 1e9, dataflow)
        words = systolic_reuse(gemm, array, scratchpad, BYTES)
        add(engine, words, DATAFLOWS[dataflow](gemm, array, EXACT))
    cpu = cpu_of(side)
    cycles = simd_costs(gemm, cpu, BYTES).fma_s * cpu.clock_hz
    instructions = instruction_energy_j(gemm, cpu, BYTES, ENERGIES)
    add(SIMD, simd_reuse(gemm, cpu, BYTES), cycles, float(instructions))
    accelerator = eyeriss_of(side)
    sets, costs = best_row_stationary_mapping(job.operator, accelerator)
    words = row_stationary_reuse(job.operator, accelerator, sets)
    add(ROWS, words, costs.compute_s * accelerator.clock_hz)
    return rows


def eyeriss_comparison() -> list[dict]:
    """Eyeriss on AlexNet: published table V, modeled counts of its mapping, gain of the best."""
    core, rows = load_accelerator("eyeriss"), []
    lines = [line for line in CHIP.read_text().splitlines() if line[:1] != "#"]
    for text in csv.DictReader(lines):
        name = text.pop("name")
        row = {key: float(value) for key, value in text.items()}
        conv = job(name, row["R"], row["P"], row["Q"], row["C"], row["K"], row["N"]).operator
        stride = jnp.asarray(row["stride"])
        conv = conv.replace(stride_p=stride, stride_q=stride, count=jnp.asarray(row["groups"]))
        chip = RowStationaryMapping(row["R"], *(row[column] for column in MAPPING_COLUMNS))
        costs = row_stationary_costs(conv, core, chip)
        words = row_stationary_reuse(conv, core, chip)
        _, best = best_row_stationary_mapping(conv, core)
        gain = costs.time_s * costs.energy_j / (best.time_s * best.energy_j)
        rows.append(
            {
                "layer": name,
                "active_pes_chip": row["num_active"],
                "active_pes_model": float(chip.num_active),
                "buffer_mb_chip": row["buffer_mb"],
                "buffer_mb_model": float(words.buffer) * BYTES / 1e6,
                "processing_ms_chip": row["processing_ms"],
                "compute_ms_model": float(1e3 * conv.count * costs.compute_s),
                "dram_mb_chip_coded": row["dram_mb"],
                "dram_mb_model_uncoded": float(words.dram) * BYTES / 1e6,
                "edp_gain_of_best_mapping": float(gain),
            }
        )
    return rows


def series(rows: list[dict], job: str, column: str) -> dict[str, list[float]]:
    names = [*ENGINES, SIMD, ROWS]
    chosen = {(row["engine"], row["side"]): row[column] for row in rows if row["job"] == job}
    return {name: [chosen[name, side] for side in SIDES] for name in names}


def draw(rows: list[dict], side: float = 128.0) -> None:
    """Draw buffer words per MAC and per cycle, energy at one size, and utilization."""
    square, conv = (job.name for job in (make_jobs()[0], make_jobs()[2]))
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(10.0, 7.4), layout="constrained")
        (words, rate), (energy, utilization) = grid
        plot_over_array_size(
            words, SIDES, series(rows, square, "buffer_words_per_mac"),
            "Buffer words per MAC",
        )  # fmt: skip
        words.set_title(square, fontsize=10)
        plot_over_array_size(
            rate, SIDES, series(rows, square, "buffer_words_per_cycle"), "Buffer words per cycle"
        )
        rate.set_title(square, fontsize=10)
        plot_over_array_size(
            utilization, SIDES, series(rows, conv, "utilization_fraction"),
            "MAC utilization (fraction)", is_log=False,
        )  # fmt: skip
        utilization.set_title(conv, fontsize=10)
        draw_energy(energy, [row for row in rows if row["side"] == side], (square, conv))
        handles, labels = words.get_legend_handles_labels()
        labels = [f"{x} (filters bypass the buffer)" if x == ROWS else x for x in labels]
        figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
        figure.savefig(HERE / "results" / "reuse.png", dpi=130)
        plt.close(figure)


def draw_energy(axes: plt.Axes, rows: list[dict], jobs: tuple[str, str]) -> None:
    """Draw bars of the square GEMM for all engines, and of the convolution for row stationary."""
    chosen = [row for row in rows if row["job"] == jobs[0]]
    chosen += [row for row in rows if row["job"] == jobs[1] and row["engine"] == ROWS]
    names = [row["engine"] for row in chosen[:-1]] + [f"{ROWS}, conv3"]
    parts = {"MAC": [1.0] * len(chosen)}
    for level, label in (("registers", "registers"), ("array", "PE to PE"),
                         ("buffer", "buffer or L1"), ("dram", "DRAM"),
                         ("instruction", "instructions")):  # fmt: skip
        parts[label] = [row[f"{level}_energy"] for row in chosen]
    plot_stacked_bars(axes, names, parts, "Energy per MAC (16-bit MAC operation = 1)")
    axes.set_title(f"Array of {rows[0]['side']:.0f} x {rows[0]['side']:.0f}", fontsize=10)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def summary(rows: list[dict], side: float = 128.0) -> str:
    """Table of all jobs at one array size."""
    head = (
        "| job | engine | register words per MAC | PE to PE | buffer | DRAM "
        "| energy without DRAM (MACs) | instruction energy (MACs) | utilization (%) "
        "| buffer words per cycle |\n|" + " --- |" * 10
    )
    lines = [head]
    for row in rows:
        if row["side"] != side:
            continue
        words = [row[f"{x}_words_per_mac"] for x in ("registers", "array", "buffer", "dram")]
        energy = 1.0 + sum(row[f"{x}_energy"] for x in ("registers", "array", "buffer"))
        cells = [f"{value:.3g}" for value in words]
        cells += [f"{energy:.2f}", f"{row['instruction_energy']:.2f}"]
        cells += [f"{100.0 * row['utilization_fraction']:.1f}"]
        cells += [f"{row['buffer_words_per_cycle']:,.0f}"]
        lines.append(f"| {row['job']} | {row['engine']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_csv(name: str, rows: list[dict]) -> None:
    with (HERE / "results" / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    """Write the results and the plot."""
    (HERE / "results").mkdir(exist_ok=True)
    with jax.enable_x64(True):
        rows = [row for job in make_jobs() for side in SIDES for row in measure(job, side)]
        chip = eyeriss_comparison()
    write_csv("reuse.csv", rows)
    write_csv("eyeriss.csv", chip)
    (HERE / "results" / "summary.md").write_text(summary(rows))
    draw(rows)
    print(summary(rows))


if __name__ == "__main__":
    main()
