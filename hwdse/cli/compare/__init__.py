"""`hwdse compare-search`: search methods at equal budgets."""
