"""The software: torch front end, integer IR, compiler, golden machine, devices, command line."""
