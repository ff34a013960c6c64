"""Schemas of the outputs of searches: optimize, solve, sweep, pareto, query, uncertainty."""

from hwdse.cli.schemas import result_schemas as results
from hwdse.cli.schemas.schema_parts import (
    Schema,
    count,
    either,
    fixed,
    flag,
    items,
    leaf,
    names,
    nullable,
    number,
    shared,
    text,
)


def optimize_schema() -> Schema:
    """Output of `hwdse optimize`: the optimum, or the front with `--front`."""
    return either(_optimum(), _front())


def _optimum() -> Schema:
    evaluation = fixed(results.evaluated())
    return fixed(
        {
            "title": text("Title of the search."),
            "objective": text("Name of the objective."),
            "value": number("Objective of the optimum in its base unit."),
            "is_feasible": flag("True if the optimum meets all limits."),
            "design": names(leaf(), "Searched parameters of the optimum by path."),
            "before": evaluation,
            "after": evaluation,
            "limits": results.limits(),
            "warnings": results.warnings(),
            "rests_on": results.rests_on(),
            "shadow_prices": names(number(), "% of the objective per +1 % of each limit."),
            **results.robust_keys(),
            "relaxation_gap": number("ln of the cost of rounding before local search."),
            "folder": text("Run folder."),
            "files": results.files(),
            "evaluations": count("Evaluations in total."),
            "search_evaluations": count("Evaluations of the gradient search."),
            "local_search_evaluations": count("Evaluations of the local search."),
            "optimality_evaluations": count("Evaluations of the optimality report."),
            "seconds": number("Time of the search.", "s"),
            "rounds": count("Rounds of the search; above 1 with --time."),
            "optimality": optimality(),
            "strategies": _strategies(),
            "regret": regret(),
        },
        "Optimum of one objective.",
        (*results.ROBUST, "optimality", "strategies", "regret"),
    )


def _strategies() -> Schema:
    return fixed(
        {
            "is_searched": flag("True if the search may take any of them."),
            "evaluated": count("Parallelism strategies evaluated on the optimum."),
            "feasible": count("Those that meet all limits."),
            "better": count("Those that also have a better objective than the optimum."),
            "best": text("The best of them, or the nearest to the limits."),
            "base_best": nullable(text("Best strategy of the base design; null if none meets.")),
            "base_value": number("Objective of the base design with it."),
        },
        "All parallelism strategies, if the search chooses one.",
    )


@shared
def regret() -> Schema:
    """Regret of the optimum over the bands around its constants, also in rests_on.json."""
    from hwdse.config.provenance import NOT_MEASURED

    loss = {
        "regret": number("Loss of keeping the design, relative; null over a limit or unknown."),
        "is_over_limit": flag("True if the design breaks a limit that another design meets."),
    }
    changed = names(leaf(), "Searched values that differ from those of the optimum, by path.")
    scenario = {
        "path": text("Path of the constant."),
        "kind": text("Kind of the constant.", NOT_MEASURED),
        "note": text("Comment of its file, or meaning of a default."),
        "nominal": number("Nominal value."),
        "value": number("End of the band."),
        "effect": number("Largest |change of ln(objective)| over the band, with the limits."),
        "objective_ratio": number("Objective of the optimum over its nominal one."),
        "best_ratio": number("Objective of the best design found over the nominal one."),
        **loss,
        "best_design": nullable(changed),
    }
    robust = {
        "value": number("Objective at the nominal values."),
        "nominal_loss": number("Objective over that of the optimum, minus 1."),
        "is_feasible": flag("True if it meets the limits in all scenarios that some design does."),
        "regrets": items(fixed(loss), "Regrets in the order of the scenarios."),
        "design": changed,
    }
    return fixed(
        {
            "rests_on": items(text(), "Paths of the constants that decide the design."),
            "bands": count("Constants with a band that are not searched."),
            "evaluations": count("Evaluations of the study, beside those of the command."),
            "scenarios": items(fixed(scenario), "A constant at one end of its band."),
            "robust": nullable(fixed(robust, "Design of least regret, with --robust.")),
        }
    )


@shared
def optimality() -> Schema:
    """Optimality report."""
    by_path = "by path of the parameter"
    return fixed(
        {
            "scope": text("Parameters that the report covers, and what it keeps fixed."),
            "lower_bound": number("Best possible value of the objective, or null if unknown."),
            "passed_bound_checks": flag("True for a lower bound, false for an estimate."),
            "optimality_gap": number("Objective over the lower bound, minus 1."),
            "unknown_because": nullable(text("Reason for an unknown bound.")),
            "checks": text("Outcome of the checks of the relaxation."),
            "neighbors": count("Neighbors that were evaluated."),
            "is_exhaustive": flag("True if these are all neighbors."),
            "num_improvements": count("Better neighbors that replaced the design."),
            "is_local_optimum": flag("True if no better neighbor is left."),
            "elasticities": names(number(), f"d ln(objective) / d ln(parameter), {by_path}."),
            "bound_by": names(text(), f"What bounds each parameter, {by_path}."),
            "shadow_prices": names(number(), "d ln(objective) / d ln(limit), sign reversed."),
            "shadow_prices_per_unit": names(number(), "Objective per base unit of each limit."),
            "quantization_loss": names(number(), "Relative loss by rounding, in total and alone."),
            "evaluations": count("Evaluations of the report."),
        }
    )


def _front() -> Schema:
    return fixed(
        {
            "title": text("Title of the search."),
            "folder": text("Run folder."),
            "evaluations": count("Evaluations."),
            **results.robust_keys(),
            "front": results.front(),
            "rests_on": results.rests_on(),
            "files": results.files(),
        },
        "Pareto front, with --front.",
        results.ROBUST,
    )


def solve_schema() -> Schema:
    """Output of `hwdse solve`."""
    parameter = {
        "before": number("Value of the base design."),
        "after": number("Value of the solution, rounded to its step."),
        "relaxed": number("Value of the solution before rounding."),
        "log_change": number("ln(after / before)."),
        "weight": number("Cost weight in the norm."),
    }
    target = {
        "target": text("Target or limit as text."),
        "metric": text("Name of the metric."),
        "limit": number("Bound in the base unit of the metric."),
        "value": number("Value of the solution."),
        "is_met": flag("True if the solution meets it."),
        "relaxed_log_violation": number("ln(value / limit) before rounding; above 0 if missed."),
        "multiplier": number("% of the change per +1 % of the target, or weight of a conflict."),
    }
    return fixed(
        {
            "title": text("Title of the job."),
            "is_feasible": flag("True if all targets and limits are met."),
            "change": number("Norm of the change."),
            "relaxed_change": number("Norm before rounding."),
            "parameters": names(fixed(parameter), "Free parameters by path."),
            "targets": items(fixed(target), "Targets, then limits of the config."),
            "evaluations": count("Model evaluations."),
            "files": results.files(),
            "rests_on": results.rests_on(),
        }
    )


def sweep_schema() -> Schema:
    """Output of `hwdse sweep`; of a share of a run that is not complete its counts only."""
    whole = fixed(
        {
            "title": text("Title of the search."),
            "folder": text("Run folder."),
            "is_complete": flag("True if all designs have been evaluated."),
            "num_points": count("Evaluated designs."),
            "num_feasible": count("Designs that meet all limits."),
            "num_not_finite": count("Designs with a metric that is not finite."),
            "num_reclassified": count("Designs whose feasibility differs in float64."),
            **results.robust_keys(),
            "front": results.front(),
            "rests_on": results.rests_on(),
            "files": results.files(),
        },
        optional=results.ROBUST,
    )
    share = fixed(
        {
            "title": text("Title of the search."),
            "folder": text("Run folder."),
            "is_complete": {"const": False},
            "shard": text("Share of the chunks, such as 3/10."),
            "num_points": count("Evaluated designs of all shares so far."),
        },
        "A share of a sweep, while others are missing.",
    )
    return either(whole, share)


def pareto_schema() -> Schema:
    """Output of `hwdse pareto`."""
    run = {
        "run": text("Run folder."),
        "status": text("Status of the run: finished, stopped, interrupted, infeasible, running."),
        "designs": count("Designs of its front."),
        "on_merged_front": count("Designs of its front on the merged front."),
        "hypervolume": number("Hypervolume in the logarithms of the objectives."),
        "share": number("Hypervolume over that of the merged front."),
    }
    return fixed(
        {
            "objectives": items(text(), "Names of the objectives."),
            "runs": items(fixed(run)),
            "unlike_kinds": results.unlike_kinds(),
            "front": results.front(),
            "rests_on": results.rests_on(),
            "files": results.files(),
        }
    )


def query_schema() -> Schema:
    """Output of `hwdse query`."""
    cell = {"type": ["number", "string", "boolean", "null"]}
    return fixed(
        {
            "columns": items(text(), "Names of the columns."),
            "rows": items(items(cell), "Rows of the result, one value per column."),
        }
    )


def compare_search_schema() -> Schema:
    """Output of `hwdse compare-search`."""
    row = {
        "task": text("One objective, or the front.", ("single", "pareto")),
        "method": text("Name of the method."),
        "median": number("Median over the seeds: objective in its base unit, or hypervolume."),
        "min": number("Smallest value over the seeds."),
        "max": number("Largest value over the seeds."),
        "seeds": count("Number of searches."),
        "evaluations": count("Largest number of evaluations of a search."),
        "seconds": number("Median time of a search.", "s"),
    }
    return fixed(
        {
            "title": text("Title of the search."),
            "folder": text("Run folder."),
            "budget": count("Evaluations per search."),
            "methods": items(fixed(row), "Methods, best first, one entry per task."),
            "ranking": items(text(), "The ranking in words."),
            "zero_hypervolume": nullable(text("Reason of hypervolumes of zero, if there are any.")),
            "files": results.files(),
        }
    )


def uncertainty_schema() -> Schema:
    """Output of `hwdse uncertainty`: of one design, or of a front with `--front`."""
    return either(_design_uncertainty(), _front_uncertainty())


def _design_uncertainty() -> Schema:
    sigma = "standard deviation of ln"
    constant = {
        "distribution": text("Distribution of the constant."),
        "low_factor": number("Lowest factor, or factor at minus one standard deviation."),
        "high_factor": number("Highest factor, or factor at plus one standard deviation."),
        "log_sigma": number(f"{sigma.capitalize()} of the constant."),
        "one_sided": nullable(text("End of its range, where derivatives are one-sided.")),
        "clipped_fraction": number(
            "Fraction of the samples that are moved to the end of the range."
        ),
    }
    metric = {
        "unit": text("Base unit."),
        "nominal": number("Value with nominal constants."),
        "p5": number("5th percentile of the samples."),
        "p50": number("Median of the samples."),
        "p95": number("95th percentile of the samples."),
        "sampled_log_sigma": number(f"Sampled {sigma} of the metric."),
        "linear_log_sigma": number(f"The same {sigma}, linear in the constants."),
        "elasticities": names(number(), "d ln(metric) / d ln(constant) by path."),
        "variance_contributions": names(number(), "Shares of the linear variance by path."),
    }
    return fixed(
        {
            "title": text("Title of the job."),
            "samples": count("Samples."),
            "constants": names(fixed(constant), "Uncertain constants by path."),
            "metrics": names(fixed(metric), "Metrics by name."),
            "rests_on": results.rests_on(),
        },
        "Metrics of one design.",
    )


def _front_uncertainty() -> Schema:
    return fixed(
        {
            "title": text("Title of the search."),
            "samples": count("Samples."),
            "seed": count("Random seed."),
            "front": results.front(),
            "rests_on": results.rests_on(),
            "files": results.files(),
        },
        "Objectives of the designs of a front.",
    )
