"""The three problems: 8 hardware parameters; with layouts and dataflows; with tiles, 38 in all."""

import pathlib

from hwdse.cli.compare.compare_search_command import comparison_problem_of
from hwdse.config import load_search
from hwdse.search.compare.method_comparison import ComparisonProblem

HERE = pathlib.Path(__file__).parent
SEARCHES = HERE.parents[1] / "configs" / "searches"
PROBLEMS = {
    "hardware": HERE / "hardware.toml",
    "layout": SEARCHES / "trn2_llama3_70b.toml",
    "tiles": SEARCHES / "gemmini_bert_explicit.toml",
}
TITLES = {
    "hardware": "8 hardware parameters",
    "layout": "hardware, checkpoint, layout, dataflow",
    "tiles": "hardware and tiles, 38 parameters",
}
SCAN = "random scan"


def problem_of(name: str) -> ComparisonProblem:
    """The question of a problem, for all methods."""
    return comparison_problem_of(load_search(str(PROBLEMS[name]), []))
