"""The arrays of the naive walk (see ``walk.py``), register by register."""
