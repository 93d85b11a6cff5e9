"""Talking to a Hub: one HEAD that is believed in nothing, one GET that may be cut and resumed.

Every header is untrusted. Nothing here writes a file or builds a path from an answer; texts of errors are made
from the status and the address without its query (signed addresses are secrets), never from headers or bodies.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from zoo.errors import HubError, IntegrityError
from zoo.hub import settings
from zoo.hub.source import MAX_BYTES, Source, is_commit, is_sha256

CHUNK = 1 << 20  # read from disk at once
STEP = 1 << 16  # received before progress is told
_REDIRECTS = (301, 302, 303, 307, 308)
_ATTEMPTS = 4
_CODES = {
    "RepoNotFound": "the repository {repo} does not exist (or is private)",
    "RevisionNotFound": "the revision {revision} does not exist in {repo}",
    "EntryNotFound": "the file {file} does not exist in {repo} at {revision}",
    "GatedRepo": "the repository {repo} is gated: accept its licence on its page, then log in with `hf auth login`",
    "DisabledRepo": "the repository {repo} has been disabled",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """What the Hub says about one file at one revision, after validation."""

    commit: str
    sha256: str | None
    size: int | None
    location: str


def place(url: str) -> str:
    """An address fit for messages: without query, fragment and user."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reach(endpoint: str) -> None:
    """Fail within ``settings.connect_timeout()`` when nothing answers at ``endpoint``; behind a proxy, do nothing.

    Name resolution has no timeout of its own, hence the thread.

    Raises:
        HubError: nobody there.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(endpoint)
    host, limit = parts.hostname or "", settings.connect_timeout()
    proxies = getproxies()
    if (proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(host):
        return
    outcome: list[BaseException | None] = []

    def knock() -> None:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((host, port), timeout=limit).close()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(limit)
    if not outcome:
        raise HubError(f"{endpoint} did not answer within {limit:g} s (ZOO_CONNECT_TIMEOUT changes that)")
    if outcome[0] is not None:
        raise HubError(f"{endpoint} cannot be reached: {type(outcome[0]).__name__}")


def _client() -> Any:
    from huggingface_hub.utils import get_session

    return get_session()


def _headers(token: str | None) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("paperzoo")
    except PackageNotFoundError:
        ours = "unknown"
    headers = {"user-agent": f"paperzoo/{ours}", "accept-encoding": "identity"}
    return headers | ({"authorization": f"Bearer {token}"} if token else {})


def _timeout() -> Any:
    from huggingface_hub.utils import httpx

    return httpx.Timeout(settings.read_timeout(), connect=max(settings.connect_timeout(), 3.0))


def _refused(response: Any, source: Source, revision: str) -> HubError:
    status, code = response.status_code, response.headers.get("x-error-code", "")
    known = _CODES.get(code)
    if known is None:
        known = {
            401: "access was refused (401): {repo} does not exist, is private, or needs a token that was not sent",
            403: "access to {repo} is forbidden (403)",
            404: "{repo}/{file} at {revision} was not found (404)",
            429: "too many requests (429); wait a while, then try again",
        }.get(status, f"the server answered {status}")
    text = known.format(repo=source.repo, revision=revision, file=source.file)
    return HubError(f"{source.label}: {text} [{place(str(response.request.url))}]")


def _step(url: str, answer: str, token: str | None) -> tuple[str, str | None]:
    """Follow one redirect: the new address, and the token only where the origin stays the same."""
    target = urljoin(url, answer)
    old, new = urlsplit(url), urlsplit(target)
    if new.scheme != "https" and not (new.scheme == "http" and settings.is_loopback(new.hostname)):
        raise HubError(f"{place(url)} redirects to {place(target)}, which is neither https nor this machine; refused")
    if not settings.is_loopback(old.hostname) and settings.is_loopback(new.hostname):
        raise HubError(f"{place(url)} redirects into this machine; refused")
    same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
    return target, token if same else None


def declared(source: Source, revision: str, endpoint: str, token: str | None = None) -> Declared:
    """Ask what ``source.file`` is at ``revision`` (one HEAD, redirects followed only on the same origin).

    Raises:
        HubError: refused, unreachable, or an answer that is malformed or contradicts the question.
    """
    from huggingface_hub.utils import httpx

    url = f"{endpoint}/{source.repo}/resolve/{revision}/{source.file}"
    sent = token
    for attempt in range(8):
        try:
            response = _client().request(
                "HEAD", url, headers=_headers(sent), timeout=_timeout(), follow_redirects=False
            )
        except httpx.HTTPError as error:
            raise HubError(f"{source.label}: {place(url)} failed: {type(error).__name__}") from None
        if response.status_code in _REDIRECTS and "x-repo-commit" not in response.headers:
            target, sent = _step(url, response.headers.get("location", ""), sent)
            if urlsplit(target).netloc != urlsplit(url).netloc:
                raise HubError(
                    f"{source.label}: {place(url)} is redirected to {place(target)} without saying what it is"
                )
            url = target
            continue
        if response.status_code in (500, 502, 503, 504) and attempt == 0:
            time.sleep(0.3)
            continue
        break
    if response.status_code >= 400:
        raise _refused(response, source, revision)

    headers = response.headers

    def malformed(name: str) -> HubError:
        return HubError(f"{source.label}: {place(url)}: malformed or contradictory {name} header; refused")

    commit = headers.get("x-repo-commit", "")
    if not is_commit(commit) or (is_commit(revision) and commit != revision):
        raise malformed("X-Repo-Commit")
    etag = headers.get("x-linked-etag") or headers.get("etag") or ""
    etag = etag.removeprefix("W/").strip('"')
    if not (is_sha256(etag) or is_commit(etag)):
        raise malformed("ETag")
    length = headers.get("x-linked-size")
    if length is None and response.status_code not in _REDIRECTS:
        length = headers.get("content-length")
    if length is not None and (not re.fullmatch(r"[0-9]{1,12}", length) or not 0 < int(length) <= MAX_BYTES):
        raise malformed("size")
    location = url
    if response.status_code in _REDIRECTS:
        location, _ = _step(url, headers.get("location", ""), None)
    return Declared(commit, etag if is_sha256(etag) else None, int(length) if length else None, location)


def transfer(
    source: Source,
    url: str,
    location: str,
    write: Callable[[bytes], None],
    restart: Callable[[], None],
    *,
    size: int,
    done: int = 0,
    token: str | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> None:
    """Stream ``size`` bytes from ``location`` into ``write``; a cut transfer goes on where it stopped.

    Args:
        url: the address on the Hub that ``location`` came from; the token goes to no other origin.
        write: receives the bytes in order.
        restart: called when the server sends everything again although a part was asked for.
        done: bytes that ``write`` has received before this call.
        tell: receives the count of bytes so far.

    Raises:
        HubError: refused, or cut ``_ATTEMPTS`` times without progress.
        IntegrityError: more or fewer bytes than ``size``.
    """
    from huggingface_hub.utils import httpx

    target, sent = _step(url, location, token)
    attempts = 0
    while done < size:
        before = done
        headers = _headers(sent) | ({"range": f"bytes={done}-"} if done else {})
        try:
            with _client().stream(
                "GET", target, headers=headers, timeout=_timeout(), follow_redirects=False
            ) as response:
                if response.status_code in _REDIRECTS and attempts < 8:
                    target, sent = _step(target, response.headers.get("location", ""), sent)
                    attempts += 1
                    continue
                if response.status_code >= 500 and attempts < _ATTEMPTS - 1:
                    attempts += 1
                    time.sleep(0.2 * 2**attempts)
                    continue
                if response.status_code not in (200, 206):
                    raise _refused(response, source, source.commit or source.branch)
                if done and not _resumes(response, done):
                    restart()
                    before = done = 0
                for chunk in response.iter_raw(STEP):
                    done += len(chunk)
                    if done > size:
                        raise IntegrityError(
                            f"{source.label}: {place(target)} sends more than the {size} bytes declared"
                        )
                    write(chunk)
                    tell(done)
                if done < size:
                    raise IntegrityError(
                        f"{source.label}: {place(target)} sent {done} bytes and stopped; {size} were declared"
                    )
        except (httpx.TransportError, httpx.StreamError) as error:
            attempts = 0 if done > before else attempts
            attempts += 1
            if attempts >= _ATTEMPTS:
                raise HubError(
                    f"{source.label}: the transfer from {place(target)} broke off at {done} of {size} bytes "
                    f"({type(error).__name__}) and did not recover"
                ) from None
            time.sleep(0.2 * 2**attempts)


def _resumes(response: Any, done: int) -> bool:
    """Whether a 206 answer really continues at byte ``done``."""
    found = re.fullmatch(r"bytes (\d{1,12})-\d{1,12}/(\d{1,12}|\*)", response.headers.get("content-range", ""))
    return response.status_code == 206 and found is not None and int(found[1]) == done
