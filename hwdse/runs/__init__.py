"""Run folders of searches: their files, the chunks of a sweep and the workers that run them.

Imports everything below the command line; prints nothing.
"""
