"""`hwdse sweep`, `pareto` and `query`: many designs, their Pareto fronts, and SQL on runs."""
