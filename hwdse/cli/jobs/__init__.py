"""Commands on jobs as a whole: compare, show, new, explain, schema."""
