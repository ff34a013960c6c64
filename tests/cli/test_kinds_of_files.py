"""Commands on files with little to search: no front, only variants, nothing at all.

Each command works, or ends with one line and exit code 2.
"""

import json

import pytest

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import load_search
from hwdse.evaluation import evaluate

CLUSTER = """
title = "two layers"
[design]
system = "trn2_ultraserver"
num_systems = 1
workload = "net.csv"
checkpoint_interval = "60 min"
[design.mix]
fp64_flop_fraction = 0
fp8_flop_fraction = 0
[design.parallelism]
tensor = 1
pipeline = 1
micro_batch = 1
recompute_fraction = 0
tensor_overlap_fraction = 0
[objective]
minimize = "energy_delay"
"""
FRONT = 'front = ["time_per_token", "energy_per_token"]\n'
DATAFLOWS = ("output_stationary_overlapped", "weight_stationary_overlapped")
VARIANTS = f"""
[[variants]]
path = "chip.array.dataflow"
values = {list(DATAFLOWS)}
""".replace("'", '"')
CHOICE = """
[[choices]]
path = "chip.num_dies"
values = [1, 2]
"""
FILES = {
    "nothing": CLUSTER + FRONT,
    "variants": CLUSTER + FRONT + VARIANTS,
    "variants_without_front": CLUSTER + VARIANTS,
    "choice_without_front": CLUSTER + CHOICE,
}
LAYERS = "Layer, M, N, K,\na, 512, 200, 512,\nb, 64, 256, 70,\n"
COMMANDS = (
    ("sweep --points 6", "nothing"),
    ("sweep --points 6 --method grid", "variants_without_front"),
    ("sweep --points 6 --keep all", "choice_without_front"),
    ("optimize --evaluations 30", "nothing"),
    ("compare-search --budget 30 --seeds 1 --methods sobol", "variants_without_front"),
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hwdse.cli.sweep.front_tables.preset_markers", lambda *_: [])
    (tmp_path / "net.csv").write_text(LAYERS)
    for name, text in FILES.items():
        (tmp_path / f"{name}.toml").write_text(text)


def works_or_says_why(capsys, command, file, *more):
    """Exit code; a user error is one line."""
    name, *options = command.split()
    code = run([name, f"{file}.toml", *options, *more])
    if code != Exit.OK:
        assert code == Exit.USER_ERROR
        assert capsys.readouterr().err.strip().count("\n") == 0
    return code


@pytest.mark.parametrize(("command", "file"), COMMANDS)
def test_commands_work(capsys, command, file):
    assert works_or_says_why(capsys, command, file, "--out", "out") == Exit.OK
    if command.startswith("sweep"):
        objective = "time_per_token" if FRONT in FILES[file] else "energy_delay"
        assert load_search(f"out/best_{objective}.toml")


def test_a_front_needs_two_objectives(capsys):
    code = works_or_says_why(capsys, "optimize --front", "variants_without_front", "--out", "out")
    assert code == Exit.USER_ERROR


def test_every_variant_is_a_point(capsys):
    """The best of two dataflows is the better one."""
    assert run(["optimize", "variants.toml", "--evaluations", "30", "--out", "a", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    products = {}
    for name in DATAFLOWS:
        loaded = load_search("variants.toml", [f"chip.array.dataflow={name}"])
        products[name] = float(evaluate(loaded.base, loaded.workload).energy_delay_j_s)
    best = min(products, key=lambda name: products[name])
    assert found["design"] == {"chip.array.dataflow": best}
    assert found["value"] == pytest.approx(products[best], rel=1e-4)  # float32 here
    assert run(["sweep", "variants.toml", "--points", "100", "--out", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_points"] == len(DATAFLOWS)
