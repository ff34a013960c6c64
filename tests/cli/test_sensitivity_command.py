"""`hwdse sensitivity`: derivatives that are not numbers are said."""

import json
import math

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit

SLOPES = {"chip.hbm.latency_s": math.nan, "chip.array.rows": -0.5, "parallelism.tensor": math.nan}


def test_a_derivative_that_is_not_a_number_is_said(capsys, monkeypatch):
    module = "hwdse.analysis.metric_slopes.metric_elasticities"
    monkeypatch.setattr(module, lambda *_: {"time_per_token": dict(SLOPES)})
    assert run(["sensitivity", "trn2_llama3_70b"]) == Exit.OK
    printed = " ".join(capsys.readouterr().out.split())
    assert "chip.hbm.latency, parallelism.tensor" in printed
    assert "not a number" in printed
    assert run(["sensitivity", "trn2_llama3_70b", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)["elasticities"]
    assert found == {
        "chip.array.rows": -0.5,
        "chip.hbm.latency_s": None,
        "parallelism.tensor": None,
    }
