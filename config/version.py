"""The version of the server, as `/`, `/health` and the companions of generations name it."""

VERSION = "1.0.0.dev0"
