"""The environment, read at the moment of use: caches, endpoint, offline, strictness, tokens."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from zoo.errors import HubError

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "on", "yes", "true"}


def _flag(*names: str) -> bool:
    return any(os.environ.get(n, "").strip().lower() in _TRUE for n in names)


def offline_mode(argument: bool | None = None) -> bool:
    """The argument, else ``HF_HUB_OFFLINE`` (or ``TRANSFORMERS_OFFLINE``, as the Hub's client reads it)."""
    return _flag("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if argument is None else argument


def strict_mode(argument: bool | None = None) -> bool:
    """The argument, else ``ZOO_STRICT_PINS``."""
    return _flag("ZOO_STRICT_PINS") if argument is None else argument


def progress_disabled() -> bool:
    return _flag("HF_HUB_DISABLE_PROGRESS_BARS")


def _seconds(name: str, default: float) -> float:
    try:
        value = float(os.environ.get(name, default))
    except ValueError:
        return default
    return value if 0 < value < 3600 else default


def connect_timeout() -> float:
    """Seconds until the Hub counts as unreachable: ``ZOO_CONNECT_TIMEOUT``, 0.9."""
    return _seconds("ZOO_CONNECT_TIMEOUT", 0.9)


def read_timeout() -> float:
    """Seconds without a byte until a transfer counts as stuck: ``HF_HUB_DOWNLOAD_TIMEOUT``, 10."""
    return _seconds("HF_HUB_DOWNLOAD_TIMEOUT", 10.0)


def cache_dir() -> Path:
    """The Hub client's own cache, so that timm, transformers and zoo share one copy of a file."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return _xdg_cache() / "huggingface" / "hub"


def pins_path() -> Path:
    """The user's own lock: ``ZOO_PINS``, else ``pins.json`` under ``ZOO_CACHE`` or the user's cache folder."""
    if os.environ.get("ZOO_PINS"):
        return Path(os.environ["ZOO_PINS"]).expanduser()
    if os.environ.get("ZOO_CACHE"):
        return Path(os.environ["ZOO_CACHE"]).expanduser() / "pins.json"
    return _xdg_cache() / "zoo" / "pins.json"


def _xdg_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()


def is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def endpoint(argument: str | None = None) -> str:
    """The Hub to ask: the argument, else ``HF_ENDPOINT`` when it is the default or loopback, else the default.

    Raises:
        HubError: an endpoint from the environment that is neither, plain http beyond this machine, or not a URL.
    """
    chosen = (argument or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(chosen)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise HubError(f"the endpoint {chosen!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or "@" in parts.netloc:
        raise HubError(f"an endpoint is http(s)://host[:port] without user, query or fragment; received {chosen!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise HubError(f"plain http is only for this machine itself; received {chosen!r}, use https")
    if argument is None and chosen != DEFAULT_ENDPOINT and not is_loopback(host):
        raise HubError(
            f"HF_ENDPOINT={chosen} is neither the default Hub nor this machine. If you trust it, say so: "
            f"endpoint={chosen!r} (command line: --endpoint {chosen})"
        )
    return chosen


def token() -> str | None:
    """The user's token; asked for only where an entry is declared gated."""
    from huggingface_hub import get_token

    return get_token()
