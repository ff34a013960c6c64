"""TOML and CSV files: lookup, reading, uncertainty suffixes, one-line errors."""
