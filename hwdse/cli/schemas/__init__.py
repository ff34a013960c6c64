"""`hwdse schema`: JSON Schemas of the output of all commands with --json."""
