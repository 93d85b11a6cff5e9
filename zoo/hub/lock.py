"""Pins for entries of the registry, asked of the Hub: one HEAD each, nothing downloaded. For maintainers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from zoo.errors import IntegrityError, PinError, WeightsError
from zoo.hub import settings, transport
from zoo.hub.source import Source


def resolve(source: Source, *, endpoint: str | None = None) -> Source:
    """``source`` with commit, SHA-256 and size as the Hub declares them now; what is pinned already must agree.

    Raises:
        PinError: the Hub declares no SHA-256 or no size, or contradicts a pin.
        HubError: refused or unreachable.
    """
    hub = settings.endpoint(endpoint)
    token = settings.token() if source.gated else None
    known = transport.declared(source, source.commit or source.branch, hub, token)
    if known.sha256 is None or known.size is None:
        raise PinError(f"{source.label}: the Hub declares no SHA-256 or size for {source.repo}/{source.file}")
    if source.sha256 not in (None, known.sha256) or source.size not in (None, known.size):
        raise PinError(
            f"{source.label}: pinned as sha256 {source.sha256}, {source.size} bytes; the Hub now declares {known.sha256}, "
            f"{known.size} bytes at {known.commit[:12]}. Look at what changed before you pin it."
        )
    return replace(source, commit=known.commit, sha256=known.sha256, size=known.size)


def resolve_all(
    sources: Iterable[Source],
    *,
    endpoint: str | None = None,
    workers: int = 8,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Pins of many sources at once: ``({key: {commit, sha256, size}}, problems)``; a problem stops only its own entry.

    ``key`` is ``Source.key`` of the entry as given. Entries that are pinned completely are checked, too.
    """
    wanted = {s.key: s for s in sources if s.repo is not None}
    if not wanted:
        return {}, []
    transport.reach(settings.endpoint(endpoint))
    pins: dict[str, dict[str, Any]] = {}
    problems: list[str] = []

    def one(source: Source) -> Source | WeightsError:
        try:
            return resolve(source, endpoint=endpoint)
        except (PinError, IntegrityError, WeightsError) as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        for done, (key, found) in enumerate(zip(wanted, pool.map(one, wanted.values()), strict=True), 1):
            if isinstance(found, Source):
                pins[key] = {"commit": found.commit, "sha256": found.sha256, "size": found.size}
            else:
                problems.append(str(found))
            tell(done, len(wanted))
    return pins, problems
