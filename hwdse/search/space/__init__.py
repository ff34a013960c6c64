"""Search spaces (dimensions, choices, variants) as unit cubes, and point sequences in them.
Imports only numerics."""
