"""Analysis of an optimum: optimality report, elasticities, and target solve. Imports only descent,
evaluation, neighborhood and space."""
