"""`hwdse optimize`: gradient search of one design or of a Pareto front, with optimality report."""
