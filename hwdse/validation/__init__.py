"""One file per kind of reference data, each giving an error table."""
