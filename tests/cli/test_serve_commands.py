"""`hwdse serve` and `hwdse serve-front`: values, laws, files and messages."""

import csv
import json

import pytest

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit

JOB = ("--system", "dgx_h100", "--model", "llama3_8b", "--engine", "vllm", "--strategy", "TP1")
TRAINING = "trn2_llama3_70b"


def told(capsys, *arguments, code=Exit.OK):
    """JSON of a command."""
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    """The one line of a refusal."""
    assert run(list(arguments)) == Exit.USER_ERROR
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture(scope="module")
def service():
    from hwdse.config import load_search
    from hwdse.config.search.job_source import JobSource
    from hwdse.jobs.services.serving_answers import service_answer

    flags = {"system": "dgx_h100", "model": "llama3_8b", "engine": "vllm", "strategy": "TP1"}
    loaded = load_search(JobSource(None, {"design": flags}))
    return loaded, service_answer(loaded.base, loaded.workload)


def test_prices_of_tokens_make_up_the_energy_and_cost_of_a_request(service):
    loaded, answer = service
    requests = loaded.workload.requests
    for name, per_token in (
        ("energy_j", answer.evaluation.energy_per_token_j),
        ("cost_usd", answer.evaluation.cost_per_token_usd),
    ):
        price = answer.prices[name]
        whole = price["input"] * requests.input_tokens + price["output"] * requests.output_tokens
        assert whole == pytest.approx(per_token * requests.output_tokens, rel=1e-6)
        assert 0.0 <= price["cached_input"] <= price["input"] < price["output"]


def test_elasticities_have_the_signs_of_the_machine(service):
    _, answer = service
    memory = answer.elasticities["HBM bandwidth"]
    assert memory["tpot_s"] < 0.0 < memory["chip_tokens_per_s"]
    assert answer.elasticities["host time per step"]["tpot_s"] > 0.0
    assert all(abs(value) < 1.5 for row in answer.elasticities.values() for value in row.values())


def test_steps_and_energy_keep_their_bounds(service):
    loaded, answer = service
    found, details = answer.evaluation, answer.evaluation.service
    assert details.decode.step_s < details.mixed.step_s
    assert sum(vars(found.time).values()) == pytest.approx(found.step_time_s)
    idle_w = found.energy.static / found.step_time_s
    assert found.chip_power_w >= idle_w / float(loaded.base.strategy.replica_chips)
    assert found.chip_power_w <= float(loaded.base.chip.power_limit_w) * (1.0 + 1e-6)
    users = found.requests_per_s * found.request_latency_s
    assert users == pytest.approx(loaded.workload.requests.concurrency, rel=1e-3)


def test_serve_prints_json_that_meets_its_schema_and_a_page(capsys):
    found = told(capsys, "serve", *JOB)
    assert found["is_served"]
    assert found["ttft"]["p50_s"] <= found["ttft"]["p99_s"]
    assert run(["serve", *JOB]) == Exit.OK
    page = capsys.readouterr().out
    for text in ("time to first token", "per million tokens", "limited by decoding", "TP1"):
        assert text in page


def test_a_rate_above_capacity_is_told_with_the_rate_that_can_be_served(capsys):
    open_loop = ("--concurrency", "0", "--rate", "1e5")
    found = told(capsys, "serve", *JOB, *open_loop)
    assert not found["is_served"]
    assert 0.0 < found["capacity_rate_per_s"] < 1e5
    assert run(["serve", *JOB, *open_loop]) == Exit.OK
    page = capsys.readouterr().out
    assert "CANNOT BE SERVED" in page
    assert "DOES NOT FIT" not in page


def test_training_jobs_and_bad_values_are_refused_in_one_line(capsys):
    assert "no service" in refused(capsys, "serve", TRAINING)
    assert "no service" in refused(capsys, "serve-front", TRAINING)
    assert "--per speed" in refused(capsys, "serve-front", *JOB, "--per", "speed")
    assert "--max-ttft 3 W" in refused(capsys, "serve-front", *JOB, "--max-ttft", "3 W")
    assert "fp9" in refused(capsys, "serve-front", *JOB, "--precisions", "fp9")
    assert "--load" in refused(capsys, "serve-front", *JOB, "--load", "-1")


@pytest.mark.parametrize("command", ["balance", "mapping", "parallelism"])
def test_commands_without_an_answer_refuse_services_in_one_line(command, capsys):
    assert "this is a service" in refused(capsys, command, *JOB)


def test_the_front_rises_with_less_interactivity_and_is_written(capsys, tmp_path):
    limits = ("--max-tpot", "20 ms", "--load", "100")
    found = told(
        capsys, "serve-front", *JOB, *limits, "--out", str(tmp_path), "--format", "png"
    )  # fmt: skip
    users = [one["user_tokens_per_s"] for one in found["front"]]
    chips = [one["chip_tokens_per_s"] for one in found["front"]]
    assert users == sorted(users, reverse=True)
    assert chips == sorted(chips)
    assert all(one["tpot_p99_s"] <= 0.02 for one in found["front"])
    best = found["best_within_limits"]
    assert best["chip_tokens_per_s"] == max(chips)
    fewest = found["least_chips"]
    per_replica = fewest["requests_per_s"] / fewest["num_replicas"]
    assert fewest["chips"] / fewest["replica_chips"] * per_replica >= 100.0
    with (tmp_path / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["num_points"]
    assert sum(int(row["is_front"]) for row in rows) == len(found["front"])
    assert (tmp_path / "serving_front.png").is_file()
