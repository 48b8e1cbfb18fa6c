"""The shell: reads what the user typed, calls the verbs of `accelsim.api`, prints. The only printer.

`main` holds the entry point and the way mistakes are told; each command has a module of its own, which is
imported only when the command is used.
"""
