"""Published training runs: rows as jobs, their times and memory."""
