"""Time, collectives and energy of one step of an inference engine."""
