"""A search contains only designs that `hwdse evaluate` accepts, or is refused before it begins."""

import math
from pathlib import Path

import numpy as np
import pytest

from hwdse.config import ConfigError, load_search, to_toml
from hwdse.config.schema.field_rules import rule_of
from hwdse.config.schema.user_paths import field_name, is_static, leaf_paths
from hwdse.config.search.valid_combinations import checker_of
from hwdse.search.space.pytree_path import get_path

CLUSTER = "trn2_llama3_70b"
CORE = "gemmini_bert"
MIXTURE = "mixture"
SEARCHES = Path(__file__).parents[2] / "configs" / "searches"
TOO_LITTLE = 1e-3


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def base_text(name):
    """Text of a preset up to its searched parameters."""
    if name == MIXTURE:
        text = base_text(CLUSTER).replace('"llama3_70b"', '"mixtral_8x7b"')
        return text.replace("tensor = 16", "tensor = 8")
    return (SEARCHES / f"{name}.toml").read_text().split("[[variables]]")[0]


def search_of(name, tables):
    Path("x.toml").write_text(base_text(name) + tables)
    return load_search("x.toml")


def variable(path, low, high, **keys):
    lines = [f'path = "{path}"', f"low = {low!r}", f"high = {high!r}"]
    lines += [f"{key} = {value!r}" for key, value in keys.items()]
    return "\n".join(["[[variables]]", *lines]) + "\n"


def paths_of(loaded):
    """Paths of all numbers of the base design."""
    roots = {name: getattr(loaded.base, name) for name in loaded.plain if name != "workload"}
    return [path for path in leaf_paths(roots) if not is_static(roots, path)]


def table_for(path, value, generator=None):
    """Range around a value, as wide as its rule allows."""
    rule = rule_of(field_name(path))
    factor = 4.0 if generator is None else float(generator.uniform(1.5, 8.0))
    if rule.is_whole:
        low = max(math.floor(value / factor), math.ceil(rule.low) or 1)
        return variable(path, int(low), int(max(math.ceil(value * factor), low + 3)))
    high = min(value * factor, rule.high) if value else min(1.0, rule.high)
    low = max(value / factor if value else 0.0, rule.low)
    if not rule.is_low_allowed:
        low = max(low, TOO_LITTLE * high)
    return variable(path, low, high, scale="linear")


def problems_of(loaded, num_points=6):
    """Messages of the check for points of a search space, with the ends of all ranges."""
    generator = np.random.default_rng(1)
    points = generator.random((num_points, loaded.space.num_dims))
    points[0], points[1] = 0.0, 1.0
    checker = checker_of(loaded)
    found = []
    for point in points:
        design = loaded.space.decode_rounded(point, loaded.base)
        paths = [dim.path for dim in loaded.space.dimensions]
        paths += [path for choice in loaded.space.choices for path in choice.paths]
        found.append(checker.problem({path: get_path(design, path) for path in paths}))
    return [problem for problem in found if problem]


def accepted_or_refused(name, tables):
    """True if a file is refused in one line; otherwise every point of its space is accepted."""
    message = ""
    try:
        loaded = search_of(name, tables)
    except ConfigError as error:
        message = str(error)
    if message:
        assert message.startswith("x.toml [")
        assert "\n" not in message
        return True
    assert problems_of(loaded) == []
    return False


@pytest.mark.parametrize("name", [CLUSTER, MIXTURE, CORE])
def test_every_single_parameter(name):
    loaded = search_of(name, "")
    refused = []
    for path in paths_of(loaded):
        value = get_path(loaded.base, path)
        if value is not None and accepted_or_refused(name, table_for(path, float(value))):
            refused.append(path)
    # Only what cannot vary alone.
    coupled = ("voltage", "torus_bandwidth", "dual_pipe")
    assert all(any(word in path for word in coupled) for path in refused), refused


@pytest.mark.parametrize("seed", range(3))
def test_parameters_together(seed):
    loaded = search_of(CLUSTER, "")
    generator = np.random.default_rng(seed)
    coupled = ("parallelism.", "cluster.num_chips", "cluster.torus", "chip.num_dies",
               "chip.array.num_arrays", "chip.process.", "cluster.pod")  # fmt: skip
    paths = [
        path
        for path in paths_of(loaded)
        if path.startswith(coupled) and get_path(loaded.base, path) is not None
    ]
    for _ in range(12):
        some = generator.choice(paths, int(generator.integers(2, 4)), replace=False)
        tables = [table_for(path, float(get_path(loaded.base, path)), generator) for path in some]
        accepted_or_refused(CLUSTER, "".join(tables))


def values_of(loaded, path):
    """Values of a path over all alternatives of the choices."""
    (choice,) = loaded.space.choices
    column = choice.paths.index(path)
    return sorted({row[column] for row in choice.table})


def test_degrees_are_those_that_divide():
    loaded = search_of(CLUSTER, variable("parallelism.tensor", 1, 64))
    assert not loaded.space.dimensions
    assert values_of(loaded, "parallelism.tensor") == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    # 64 chips a domain, 16 x 4 ranks a replica, 1024 sequences a step
    loaded = search_of(CLUSTER, variable("cluster.num_chips", 64, 2**17, step=64))
    chips = values_of(loaded, "cluster.num_chips")
    assert chips[:3] == [64.0, 128.0, 256.0]
    batch = loaded.workload.global_batch
    assert all(batch % (n / 64.0) == 0.0 for n in chips)
    assert chips[-1] == 64.0 * batch or chips[-1] == 2**17


def test_degrees_and_chips_together():
    tables = variable("parallelism.tensor", 1, 64) + variable("cluster.num_chips", 64, 512)
    loaded = search_of(CLUSTER, tables)
    (choice,) = loaded.space.choices
    assert choice.paths == ("cluster.num_chips", "parallelism.tensor")
    assert set(choice.table) == {
        (chips, tensor)
        for chips in (64.0, 128.0, 256.0, 512.0)
        for tensor in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
        if chips % (4.0 * tensor) == 0.0
    }
    assert choice.labels[0] == "num_chips 64, tensor 1"


def test_labels_have_the_data_degree_of_their_chips():
    tables = '[[choices]]\npath = "parallelism"\nvalues = "all"\n'
    loaded = search_of(CLUSTER, tables + variable("cluster.num_chips", 64, 512))
    (choice,) = loaded.space.choices
    paths = ["cluster.num_chips", "parallelism.tensor", "parallelism.pipeline"]
    columns = [choice.paths.index(path) for path in paths]
    for row, label in zip(choice.table, choice.labels, strict=True):
        chips, tensor, pipeline = (row[column] for column in columns)
        assert f" DP{chips / (tensor * pipeline):g}," in label


def test_whole_multiples_stay_a_range():
    loaded = search_of(CLUSTER, variable("chip.array.num_arrays", 1, 33))
    (dim,) = loaded.space.dimensions
    dies = loaded.base.chip.num_dies
    assert dies == 2.0
    assert (dim.low, dim.high, dim.step) == (2.0, 32.0, 2.0)


def test_what_is_independent_is_left_alone():
    tables = variable("chip.array.rows", 32, 512, step=32) + variable(
        "chip.hbm.capacity_bytes", 1e9, 1e12
    )
    assert len(search_of(CLUSTER, tables).space.dimensions) == 2
    stages = [f"chip.process.{name}_voltage_v" for name in ("nominal", "threshold")]
    tables = variable(stages[0], 0.6, 1.0) + variable(stages[1], 0.2, 0.5)
    assert len(search_of(CLUSTER, tables).space.dimensions) == 2


def test_steps_with_a_fixed_sum():
    name = "cluster.torus_bandwidth_fractions"
    tables = "".join(variable(f"{name}.{i}", 0.1, 0.8, step=0.1) for i in range(3))
    (choice,) = search_of(CLUSTER, tables).space.choices
    sums = [sum(row) for row in choice.table]
    assert sums == pytest.approx([1.0] * len(sums))
    assert len(sums) == math.comb(9, 2)  # ten tenths in three parts


def test_no_file_is_written_of_an_impossible_design():
    loaded = search_of(CLUSTER, "")
    strategy = loaded.base.parallelism.replace(tensor=3.0)
    with pytest.raises(ConfigError, match=r"not possible: .* tensor = 3: expected a divisor of 64"):
        to_toml(loaded, loaded.base.replace(parallelism=strategy))
    assert to_toml(loaded, loaded.base)


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (
            variable("parallelism.tensor", 5, 7),
            'x.toml [variables 1] path = "parallelism.tensor": expected a range with a possible '
            "value; at tensor 5: [design.parallelism] tensor = 5: expected a divisor of 64",
        ),
        (
            variable("cluster.torus_bandwidth_fractions.0", 0.2, 0.6),
            'x.toml [variables 1] path = "cluster.torus_bandwidth_fractions.0": expected ranges '
            "that are possible at their ends; at cluster.torus_bandwidth_fractions.0 = 0.2: "
            "[cluster] torus_bandwidth_fractions = [0.2, 0.4, 0.2]: expected numbers with the sum",
        ),
        (
            variable("chip.process.nominal_voltage_v", 0.1, 0.9),
            'x.toml [variables 1] path = "chip.process.nominal_voltage": expected ranges that ',
        ),
        (
            '[[choices]]\npath = "parallelism.tensor"\nvalues = [2, 3]\n',
            'x.toml [choices 1] values = "tensor 3": expected a possible row; [design.parallelism]',
        ),
        (
            '[[choices]]\npath = "chip.num_dies"\nvalues = [2, 3]\n',
            'x.toml [choices 1] values = "num_dies 3": expected a possible row; [chip] num_dies',
        ),
        (
            variable("parallelism.tensor", 1, 64)
            + variable("parallelism.pipeline", 1, 80)
            + variable("parallelism.micro_batch", 1, 64),
            'x.toml [variables 3] path = "parallelism.micro_batch": expected at most 100,000 ',
        ),
    ],
)
def test_refused_before_the_search(tables, line):
    with pytest.raises(ConfigError) as caught:
        search_of(CLUSTER, tables)
    assert str(caught.value).startswith(line)
