"""The one form of a method with parameters, without pydantic: a name, or one name with its parameters."""

from __future__ import annotations

from typing import Any


def spec_name(spec: Any) -> str:
    """Method name of a spec that has been validated."""
    return str(spec if isinstance(spec, str) else next(iter(spec)))
