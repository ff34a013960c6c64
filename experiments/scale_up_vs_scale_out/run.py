"""Study of scale-up domain sizes and of the scaling of one training job.

    python experiments/scale_up_vs_scale_out/run.py

Writes results/domain_sizes.csv, results/job_sizes.csv, results/summary.json, results/tables.md and
the plots domain_sizes, domain_parts, costs and job_sizes (PNG and SVG), and inserts the tables into
README.md.
About two CPU minutes.
"""

import csv
import json
import pathlib
from typing import Any

import domain_sizes
import job_sizes
from scale_figures import draw_costs, draw_domain_parts, draw_domains, draw_sizes
from tables import all_tables, pick, scaling_limits

RESULTS = pathlib.Path(__file__).parent / "results"


def write_csv(name: str, rows: list[dict[str, Any]]) -> None:
    with (RESULTS / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def summary(domains: list[dict[str, Any]], sizes: list[dict[str, Any]]) -> dict[str, Any]:
    """Speedup over domains of 16, break-even fabric prices, and scaling limits of the jobs."""
    found = {}
    for job in domain_sizes.JOBS:
        rows = pick(domains, job=job, topology="switch", case="base")
        found[job] = {
            f"{row['batch_tokens']} tokens, domain of {row['domain']}": {
                "speedup": round(row["speedup"], 4),
                "break_even_usd": round(row["break_even_usd"], 1),
                "strategy": row["strategy"],
            }
            for row in rows
        }
    return {"domains": found, "scaling_limits": scaling_limits(sizes)}


def refresh_readme(tables: str) -> None:
    """Replace the tables below the heading "Tables" of README.md. Its prose is edited by hand."""
    readme = RESULTS.parent / "README.md"
    before, heading, _ = readme.read_text().partition("## Tables\n")
    readme.write_text(f"{before}{heading}\n{tables}")


def main() -> None:
    """Write the results, plots and tables."""
    RESULTS.mkdir(exist_ok=True)
    domains, sizes = domain_sizes.study(), job_sizes.study()
    write_csv("domain_sizes.csv", domains)
    write_csv("job_sizes.csv", sizes)
    (RESULTS / "summary.json").write_text(json.dumps(summary(domains, sizes), indent=1) + "\n")
    tables = all_tables(domains, sizes)
    (RESULTS / "tables.md").write_text(tables)
    draw_domains(domains, RESULTS)
    draw_domain_parts(domains, RESULTS)
    draw_costs(domains, RESULTS)
    draw_sizes(sizes, RESULTS)
    refresh_readme(tables)
    print(tables)


if __name__ == "__main__":
    main()
