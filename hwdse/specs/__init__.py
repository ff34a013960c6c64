"""What is designed: frozen pytrees without formulas."""
