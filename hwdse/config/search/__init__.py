"""Search files: base design, search space, objectives, limits, uncertain constants.

Imports the other rooms of `config`.
"""
