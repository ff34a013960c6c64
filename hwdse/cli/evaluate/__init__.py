"""Commands about one design or one model: `evaluate`, `presets`, `sensitivity` and `validate`.

Imports `cli.shared` and the rooms above `cli`.
"""
