"""`[design]` tables of search files, and the files that only they name: operators, tiles.

Imports `files`, `schema` and `hardware`.
"""
