"""The command line. Each command is one function; slow packages are imported when it runs."""
