"""Non-dominated sets, hypervolume, crowding and merging of design sets. Imports only numerics."""
