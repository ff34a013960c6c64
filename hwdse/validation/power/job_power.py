"""Power of chips that serve or train, at their measured rates, against measurements.

The kind of a file follows from its columns. Serving: GPU boards at the measured tokens per second
(`served_work`). Training: boards or whole nodes at the measured FLOP per second; bytes from HBM per
FLOP are those of the model's own steps. A node adds the watts of its host and the loss of its
supply.
"""

import math
from pathlib import Path

from hwdse.config import load_system
from hwdse.validation.power.served_work import DecodingStep, served_models, step_work
from hwdse.validation.power.steady_power import (
    WorkRates,
    chip_and_area,
    power_at_rates_w,
    preset_of,
)
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError, Predictions, model_predictions

SERVING_COLUMN = "output_tokens_per_s"
TRAINING_BYTES_PER_FLOP = 1.5e-3
"""HBM bytes per FLOP of a training step. Derived: the model's own steps of GPT-3 175B, Llama 2 70B
and Llama 3 8B on H100 with the Megatron Core stack have 1.2e-3, 1.4e-3 and 1.9e-3."""
PRODUCT_BYTES_PER_FLOP = 3.7e-4
"""HBM bytes per FLOP of large products: three matrices of 8192 x 8192 in 16 bits."""
TRAINING_FP8_FRACTION = 0.9
"""Part of the FLOP of FP8 training in FP8; attention and the LM head are 16-bit. Assumed."""
CONSTANT_ACTIVITY_RATIO = 0.6
"""Activity of constant operands, see `PrecisionMix.operand_activity_ratio`."""
HOST_SYSTEM = "dgx_h100"
"""System whose host and supply are those of the measured nodes."""
FORMATS = {"bf16": False, "fp16": False, "fp8": True}
"""Formats with an energy, and whether they are FP8."""


def validate(path: Path) -> ValidationReport:
    """Error table of the power: by GPU, model and quality (serving), by chip and meter (training).

    Rows of other kinds than `measured` and rows without a FLOP rate are skipped.
    """
    table = read_table(path)
    if SERVING_COLUMN in table.columns:
        reference = table.numbers("avg_power_w_per_gpu", at_least=1.0)
        groups = {name: table.text(name) for name in ("gpu", "quality", "model")}
        clean = [
            f"{gpu}, {'clean' if _is_clean(quality) else 'flagged'}"
            for gpu, quality in zip(groups["gpu"], groups["quality"], strict=True)
        ]
        groups["rows"] = clean
        predict = _serving_power
    else:
        reference = table.numbers("power_w", at_least=1.0, may_be_empty=True)
        groups = {"accelerator": table.text("accelerator"), "meter": table.text("power_per")}
        predict = _training_power
    models, skipped = model_predictions(table, ("power",), predict)
    return build_report(
        "power",
        path,
        {"power": Comparison(reference, models["power"])},
        rows_skipped=skipped,
        group_by=groups,
    )


def _is_clean(quality: str) -> bool:
    """True unless the host held the GPU up or its steps were uneven."""
    return "host_jitter" not in quality and "uneven_steps" not in quality


def _serving_power(table: ReferenceTable, index: int) -> Predictions:
    row = table.rows[index]
    model, preset = served_models().get(row["model"]), preset_of(row["gpu"])
    if model is None:
        raise NoModelError("no architecture of this model")
    if preset is None:
        raise NoModelError("no preset of this GPU")
    batch, num_gpus, tokens_per_s = (
        float(row[name]) for name in ("avg_batch_size", "num_gpus", SERVING_COLUMN)
    )
    prompts = float(row["window_prefills_per_token"]) * float(row["uncached_input_tokens"])
    step = DecodingStep(
        batch,
        batch * prompts,
        float(row["mean_input_tokens"]) + float(row["window_mean_age_tokens"]),
        float(row["attention_dp"]),
    )
    work, per_gpu = step_work(model, step), tokens_per_s / batch / num_gpus
    chip, area_mm2 = chip_and_area(preset)
    rates = WorkRates(per_gpu * work.flop, per_gpu * work.hbm_bytes, work.fp8_fraction)
    power_w = power_at_rates_w(rates, chip, area_mm2, _limit_w(chip.power_limit_w))
    return {"power": float(power_w)}


def _training_power(table: ReferenceTable, index: int) -> Predictions:
    row = table.rows[index]
    if row["kind"] != "measured":
        raise NoModelError(f"kind {row['kind']}: not a measurement")
    if row["confidence"] not in ("A", "B"):
        raise NoModelError("recalled, not looked up")
    preset = preset_of(row["accelerator"])
    if preset is None:
        raise NoModelError("no preset of this accelerator")
    if not row["tflop_s_per_accelerator"]:
        raise NoModelError("no FLOP rate")
    is_fp8 = FORMATS.get(row["precision"].partition(" ")[0])
    if is_fp8 is None:
        raise NoModelError(f"format {row['precision']}: no energy")
    chip, area_mm2 = chip_and_area(preset)
    flop_per_s = 1e12 * float(row["tflop_s_per_accelerator"])
    is_product = "GEMM" in row["workload"]
    share = (1.0 if is_product else TRAINING_FP8_FRACTION) if is_fp8 else 0.0
    rates = WorkRates(
        flop_per_s,
        flop_per_s * (PRODUCT_BYTES_PER_FLOP if is_product else TRAINING_BYTES_PER_FLOP),
        share,
        operand_activity_ratio=CONSTANT_ACTIVITY_RATIO if "constant" in row["workload"] else 1.0,
    )
    limit_w = float(row["power_limit_w"] or _limit_w(chip.power_limit_w))
    chip_w = float(power_at_rates_w(rates, chip, area_mm2, limit_w))
    return {"power": _metered_w(row, chip_w)}


def _metered_w(row: dict[str, str], chip_w: float) -> float:
    """Power at the meter of a row: of a board, or of a node before or behind its supply."""
    if not row["power_per"].startswith("node of "):
        return chip_w
    if "RAPL" in row["covers"]:
        raise NoModelError("boards and processors without the rest of the node")
    cluster = load_system(HOST_SYSTEM).cluster
    num_chips = float(row["power_per"].removeprefix("node of "))
    node_w = num_chips * (chip_w + float(cluster.host_power_w))
    is_direct = "DC" in row["covers"]
    return node_w if is_direct else node_w / (1.0 - float(cluster.supply_loss_fraction))


def _limit_w(limit_w: float | None) -> float:
    return math.inf if limit_w is None else float(limit_w)
