"""Physical effects, one per file; folders import specs and workloads but not one another."""
