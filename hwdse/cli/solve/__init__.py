"""`hwdse solve`: minimum-norm change of parameters that meets targets."""
