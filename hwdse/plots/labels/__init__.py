"""Labels beside the points of a plot, placed clear of points, lines and each other."""
