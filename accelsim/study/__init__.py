"""Studies: one question asked of many estimates or runs, kept as a folder of tables and figures."""
