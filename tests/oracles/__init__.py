"""Slow, obvious twins of the fast code, in Python ints and fractions only. They share nothing with it."""
