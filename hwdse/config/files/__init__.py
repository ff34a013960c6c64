"""TOML files: presets and files of users, values with an uncertainty, errors as one line."""
