"""Work of serving: a task, and the operators of one step of an engine."""
