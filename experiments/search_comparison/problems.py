"""Three problems: 8 hardware parameters; with parallelism strategy and dataflow; with tiles, 38 in
all."""

import pathlib

from hwdse.cli.compare.compare_search_command import comparison_problem_of
from hwdse.config import load_search
from hwdse.search.compare.method_comparison import ComparisonProblem

HERE = pathlib.Path(__file__).parent
SEARCHES = HERE.parents[1] / "configs" / "searches"
PROBLEMS = {
    "hardware": HERE / "hardware.toml",
    "strategies": SEARCHES / "trn2_llama3_70b.toml",
    "tiles": SEARCHES / "gemmini_bert_explicit.toml",
}
TITLES = {
    "hardware": "8 hardware parameters",
    "strategies": "hardware, checkpoint, strategy, dataflow",
    "tiles": "hardware and tiles, 38 parameters",
}
SCAN = "random scan"


def problem_of(name: str) -> ComparisonProblem:
    """Problem as all methods see it."""
    return comparison_problem_of(load_search(str(PROBLEMS[name]), []))
