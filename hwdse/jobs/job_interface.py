"""Parts of a job that its answers use: strategies, elasticities, searches."""

from collections.abc import Mapping
from typing import Any, Protocol

from hwdse.config.schema.user_paths import Roots
from hwdse.config.search.job_source import JobSource
from hwdse.config.search.loaded_search import LoadedSearch


class AnyJob(Protocol):
    """A job as its answers see it; `composed_job.Job` is one."""

    @property
    def source(self) -> JobSource:
        """File and tables that describe the job."""
        ...

    @property
    def sets(self) -> tuple[str, ...]:
        """Overrides as texts of `--set`."""
        ...

    @property
    def loaded(self) -> LoadedSearch:
        """The checked job."""
        ...

    @property
    def title(self) -> str:
        """Workload and system in words."""
        ...

    @property
    def workload(self) -> Any:
        """Workload for `hwdse.evaluate`."""
        ...

    @property
    def design(self) -> Any:
        """Design for `hwdse.evaluate`."""
        ...

    @property
    def traced(self) -> Mapping[str, Any]:
        """Arrays and traced values by path."""
        ...

    @property
    def roots(self) -> Roots:
        """Specs by the first words of paths."""
        ...

    def evaluate(self) -> Any:
        """Metrics of the design."""
        ...
