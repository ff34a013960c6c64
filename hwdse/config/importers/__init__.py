"""Files of other tools as files of hwdse; one module per tool.

Each importer returns `ImportedFile`s: tables of TOML, the origin of every value, and the parts of
the source that hwdse does not express. Imports `config.files` only, so that loaders can import it.
"""
