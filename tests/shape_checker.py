"""The run-time checker of annotations: beartype, for which an int is a float as it is for type checkers (PEP 484)."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
