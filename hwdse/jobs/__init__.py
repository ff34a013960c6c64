"""Questions as objects: a job, its results as tables, searches, comparisons.

- `job`: a `Job` of system, model, task, strategy and software by name, or of a file.
- `Job.evaluate`, `strategies`, `gradient`, `search`, `with_`: answers, and jobs that differ.
- `compare`: jobs side by side as a `Comparison`.

Results print as tables in terminals and notebooks; `to_pandas` needs the package pandas. Imports
`config`, `search`, `training`, `runs`, `plots` and `report`; imported by `cli`.
"""

from hwdse.jobs.comparison import Comparison, compare
from hwdse.jobs.composed_job import Job, job
from hwdse.jobs.job_results import JobResult, ResultTable
from hwdse.jobs.job_search import FrontTable, Search, SearchOutcome

__all__ = [
    "Comparison",
    "FrontTable",
    "Job",
    "JobResult",
    "ResultTable",
    "Search",
    "SearchOutcome",
    "compare",
    "job",
]
