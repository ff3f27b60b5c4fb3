"""The command line, the supervisor that runs a stack, and the bundled servers."""
