"""Reader of reference files, error metrics and error tables of all validations."""
