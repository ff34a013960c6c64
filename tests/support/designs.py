"""Designs for tests of the full model: the preset of the reference job, and random designs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.space.search_space import set_path
from hwdse.workload.gemms import Gemms, LayerList

LOADED = load_search("trn2_llama3_70b")
BASE, JOB = LOADED.base, LOADED.workload
SIZES = np.array([[4096.0, 4096.0, 4096.0, 1.0], [64.0, 1000.0, 333.0, 12.0], [1.0] * 4])
LAYERS = LayerList(
    Gemms(*SIZES.T, np.ones(3), np.ones(3), np.ones(3), np.full(3, 1e3), np.zeros(3)),
    ("a", "b", "c"),
)
NUM_RANDOM = 200
SEARCHED = {  # ranges wider than in a search: low, high, on a logarithmic scale
    "chip.array.rows": (16.0, 512.0),
    "chip.array.cols": (16.0, 512.0),
    "chip.array.num_arrays": (1.0, 64.0),
    "chip.array.clock_hz": (5e8, 4e9),
    "chip.sram.capacity_bytes": (1e6, 2e9),
    "chip.sram.bandwidth_bytes_per_s": (1e12, 1e15),
    "chip.hbm.bandwidth_bytes_per_s": (1e11, 2e13),
    "chip.hbm.capacity_bytes": (1e9, 1e12),
    "chip.link.bandwidth_bytes_per_s": (1e10, 1e13),
    "chip.link.latency_s": (1e-8, 1e-4),
    "chip.network.bandwidth_bytes_per_s": (1e9, 1e12),
    "chip.vector_flop_per_s": (1e11, 1e14),
    "chip.fp64_per_fp16_ratio": (1e-6, 1.0),
    "chip.launch_latency_s": (1e-8, 1e-4),
    "mix.fp64_flop_fraction": (1e-9, 0.5),
    "mix.fp8_flop_fraction": (1e-3, 1.0),
    "cluster.chip_mtbf_s": (1e6, 1e10),
    "checkpoint_interval_s": (10.0, 1e5),
}
STRATEGIES = ((1, 1, 1), (1, 16, 4), (4, 2, 64), (16, 4, 16), (64, 1, 16), (8, 80, 1), (2, 3, 5))


NEUTRAL = (
    "context",
    "expert",
    "expert_tensor",
    "virtual_pipeline",
    "zero_bubble_fraction",
    "dual_pipe_fraction",
    "first_stage_layers",
    "last_stage_layers",
    "attention_recompute_fraction",
    "sequence_parallel_fraction",
    "optimizer_shard_fraction",
    "gradient_shard_fraction",
    "weight_shard_fraction",
    "expert_overlap_fraction",
)


def with_static_defaults(design):
    """Design with the unused features of the reference job as untraced numbers: groups of one chip,
    compiled stack. Their gradients are tested in tests/training."""
    plain = {name: getattr(BASE.parallelism, name) for name in NEUTRAL}
    return design.replace(software=BASE.software, parallelism=design.parallelism.replace(**plain))


@functools.cache
def _compiled(relaxation, is_layer_list):
    return quick_jit(
        lambda design: evaluate(
            with_static_defaults(design), LAYERS if is_layer_list else JOB, relaxation
        )
    )


def run(design, relaxation=EXACT, is_layer_list=False):
    """Compiled evaluation of one design; designs with a power limit have a separate program."""
    return _compiled(relaxation, is_layer_list)(as_arrays(design))


def run_once(design, relaxation=EXACT, is_layer_list=False):
    """Evaluation without compilation, for relaxations and structures that a test uses once."""
    return evaluate(
        with_static_defaults(as_arrays(design)), LAYERS if is_layer_list else JOB, relaxation
    )


def as_arrays(design):
    return jax.tree.map(lambda x: jnp.asarray(x, float), design)


def vector(evaluation):
    return jnp.stack([jnp.asarray(x, float) for x in jax.tree.leaves(evaluation)])


def names_of(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def random_designs():
    """Random designs over a wide box, stacked, with matching strategies."""
    rng = np.random.default_rng(0)
    batch = jax.tree.map(lambda x: jnp.full(NUM_RANDOM, x, float), BASE)
    for path, (low, high) in SEARCHED.items():
        values = np.exp(rng.uniform(np.log(low), np.log(high), NUM_RANDOM))
        if path.endswith(("rows", "cols", "num_arrays")):
            values = np.round(values)
        batch = set_path(batch, path, jnp.asarray(values))
    strategies = np.array(STRATEGIES, float)[rng.integers(0, len(STRATEGIES), NUM_RANDOM)]
    for column, name in enumerate(("tensor", "pipeline")):
        batch = set_path(batch, f"parallelism.{name}", jnp.asarray(strategies[:, column]))
    recompute = rng.integers(0, 2, NUM_RANDOM).astype(float)
    batch = set_path(batch, "parallelism.recompute_fraction", jnp.asarray(recompute))
    no_native = jnp.where(jnp.arange(NUM_RANDOM) % 5 == 0, 0.0, batch.chip.fp64_per_fp16_ratio)
    batch = set_path(batch, "chip.fp64_per_fp16_ratio", no_native)
    return set_path(batch, "cluster.num_chips", jnp.asarray(np.prod(strategies, axis=1)))
