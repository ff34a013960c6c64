"""Rules that every table follows: names, units, ranges, paths of users, overrides, consistency."""
