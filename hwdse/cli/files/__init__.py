"""Commands that write files of hwdse: imports of files of other tools."""
