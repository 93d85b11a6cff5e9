"""A small Hub on this machine for tests: the routes that huggingface_hub 2.4 calls, and faults on demand.

Standard library only. ``LoopbackHub`` keeps repositories in memory and serves them from a thread; ``hub.fault(...)``
makes the next requests go wrong; ``hub.log`` holds what was asked, headers included.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loopback_writing import DATE, Writing, is_lfs, sha256


@dataclass
class Commit:
    oid: str
    files: dict[str, bytes]
    title: str
    parent: str | None


@dataclass
class Repo:
    gated: bool = False
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes | None], title: str = "commit", branch: str = "main") -> str:
        """Add, replace or (None) delete files; returns the new commit."""
        parent = self.refs.get(branch)
        tree = dict(self.commits[parent].files) if parent else {}
        tree |= {k: v for k, v in files.items() if v is not None}
        for gone in (k for k, v in files.items() if v is None):
            tree.pop(gone, None)
        seed = repr((parent, len(self.commits), title, sorted((k, sha256(v)) for k, v in tree.items())))
        oid = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[oid] = Commit(oid, tree, title, parent)
        self.refs[branch] = oid
        return oid

    def at(self, revision: str) -> Commit | None:
        revision = unquote(revision)
        oid = self.refs.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(oid)


@dataclass
class Fault:
    kind: str
    method: str
    path: re.Pattern[str]
    times: int
    value: Any = None


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class LoopbackHub:
    """``with LoopbackHub() as hub: hub.url``."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.uploads: dict[str, bytes] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, dict[str, str]]] = []
        self.lock = threading.RLock()
        hub = self

        class Handler(_Handler):
            owner = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> LoopbackHub:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def repo(self, name: str, files: dict[str, bytes] | None = None, **kwargs: Any) -> Repo:
        repo = self.repos.setdefault(name, Repo(**kwargs))
        if files or not repo.commits:
            repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"} | dict(files or {}))
        return repo

    def fault(
        self, kind: str, method: str = "GET|HEAD", path: str = ".", times: int = 10**9, value: Any = None
    ) -> None:
        self.faults.append(Fault(kind, method, re.compile(path), times, value))

    def requests(self, method: str = ".", path: str = ".") -> list[tuple[str, str, dict[str, str]]]:
        return [r for r in self.log if re.search(method, r[0]) and re.search(path, r[1])]


class _Handler(Writing, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: LoopbackHub

    def log_message(self, *_: object) -> None:
        pass

    # ------------------------------------------------------------- plumbing
    def send(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str = "") -> None:
        extra = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self.send(status, json.dumps({"error": code or str(status)}).encode(), extra)

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_any(self) -> None:
        hub, parts = self.owner, urlsplit(self.path)
        self.fault: Fault | None = None
        with hub.lock:
            hub.log.append((self.command, parts.path, {k.lower(): v for k, v in self.headers.items()}))
            for fault in hub.faults:
                if fault.times > 0 and re.fullmatch(fault.method, self.command) and fault.path.search(parts.path):
                    fault.times -= 1
                    self.fault = fault
                    break
        kind = self.fault.kind if self.fault else ""
        if kind.isdigit():
            self.body()
            return self.refuse(int(kind), self.fault.value or "")
        if kind == "hang":
            time.sleep(self.fault.value)
        if kind == "location":
            return self.send(302, b"", {"Location": self.fault.value})
        self.query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        path = parts.path
        for method, pattern, action in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and re.fullmatch(method, self.command):
                return getattr(self, action)(*found.groups())
        self.body()
        self.refuse(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

    def authorised(self) -> bool:
        return self.headers.get("Authorization", "").startswith("Bearer ")

    def look(self, name: str, revision: str | None = None) -> tuple[Repo, Commit] | None:
        repo = self.owner.repos.get(name)
        if repo is None:
            self.refuse(404, "RepoNotFound")
        elif repo.private and not self.authorised():
            self.refuse(401, "RepoNotFound")
        elif (commit := repo.at(revision or "main")) is None:
            self.refuse(404, "RevisionNotFound")
        else:
            return repo, commit
        return None

    # ------------------------------------------------------------- files
    def resolve(self, name: str, revision: str, path: str) -> None:
        if not (found := self.look(name, revision)):
            return
        repo, commit = found
        if repo.gated and not self.authorised():
            return self.refuse(403, "GatedRepo")
        data = commit.files.get(unquote(path))
        if data is None:
            return self.refuse(404, "EntryNotFound")
        kind = self.fault.kind if self.fault else ""
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob_id(data)}"', "Accept-Ranges": "bytes"}
        if is_lfs(path):
            headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
        if kind == "headers":
            headers |= self.fault.value
            headers = {k: v for k, v in headers.items() if v is not None}
        if kind == "redirect":
            return self.send(302, b"", headers | {"Location": self.fault.value})
        if self.command == "HEAD":
            return self.send(200, b"", headers, length=len(data))
        status = 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and kind != "norange":
            start, stop = int(wanted[1]), int(wanted[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{stop}/{len(data)}"
            data, status = data[start : stop + 1], 206
        self.deliver(kind, status, data, headers)

    def deliver(self, kind: str, status: int, data: bytes, headers: dict[str, str]) -> None:
        if kind == "corrupt":
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if kind == "short":
            data = data[: len(data) // 2]
        if kind == "long":
            data += b"x" * 1000
        if kind == "drop":
            self.send(status, b"", headers, length=len(data))
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
        elif kind == "cut":
            self.send(status, data[: len(data) // 2], headers, length=len(data))
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
        elif kind == "slow":
            self.send(status, b"", headers, length=len(data))
            for at in range(0, len(data), 65536):
                self.wfile.write(data[at : at + 65536])
                self.wfile.flush()
                time.sleep(self.fault.value if self.fault else 0)
        else:
            self.send(status, data, headers)

    # ------------------------------------------------------------- reading the API
    def entry(self, path: str, data: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
        if is_lfs(path):
            row["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 130}
        return row

    def info(self, name: str, revision: str | None = None) -> None:
        if not (found := self.look(name, revision)):
            return
        repo, commit = found
        siblings = []
        for path, data in sorted(commit.files.items()):
            row: dict[str, Any] = {"rfilename": path}
            if self.query.get("blobs"):
                row |= {"size": len(data), "blobId": blob_id(data)}
                if is_lfs(path):
                    row["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(row)
        self.json(
            {"_id": "0", "id": name, "modelId": name, "sha": commit.oid, "private": repo.private, "gated": repo.gated,
             "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings, "lastModified": DATE,
             "createdAt": DATE}
        )  # fmt: skip

    def tree(self, name: str, revision: str, below: str | None) -> None:
        if found := self.look(name, revision):
            prefix = (below or "").strip("/")
            rows = [self.entry(p, d) for p, d in sorted(found[1].files.items()) if p.startswith(prefix)]
            self.json(rows)

    def paths_info(self, name: str, revision: str) -> None:
        raw = self.body()
        if found := self.look(name, revision):
            if "json" in self.headers.get("Content-Type", ""):
                wanted = json.loads(raw)["paths"]
            else:
                wanted = parse_qs(raw.decode()).get("paths", [])
            self.json([self.entry(p, found[1].files[p]) for p in wanted if p in found[1].files])

    def refs(self, name: str) -> None:
        if found := self.look(name):
            repo = found[0]
            heads = [{"name": k, "ref": f"refs/heads/{k}", "targetCommit": v} for k, v in repo.refs.items()]
            tags = [{"name": k, "ref": f"refs/tags/{k}", "targetCommit": v} for k, v in repo.tags.items()]
            self.json({"branches": heads, "converts": [], "tags": tags})

    def commits(self, name: str, revision: str) -> None:
        if found := self.look(name, revision):
            rows, commit = [], found[1]
            while commit:
                rows.append({"id": commit.oid, "title": commit.title, "message": "", "date": DATE,
                             "authors": [{"user": "tester"}]})  # fmt: skip
                commit = found[0].commits.get(commit.parent or "")
            self.json(rows)

    def listing(self) -> None:
        self.json(
            [{"id": n, "modelId": n, "_id": "0", "tags": [], "private": r.private} for n, r in self.owner.repos.items()]
        )


_ID = r"([^/]+/[^/]+)"
ROUTES = [
    ("HEAD|GET", rf"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
    ("GET", rf"/api/models/{_ID}", "info"),
    ("GET", rf"/api/models/{_ID}/revision/([^/]+)", "info"),
    ("GET", rf"/api/models/{_ID}/tree/([^/]+)(/.*)?", "tree"),
    ("POST", rf"/api/models/{_ID}/paths-info/([^/]+)", "paths_info"),
    ("GET", rf"/api/models/{_ID}/refs", "refs"),
    ("GET", rf"/api/models/{_ID}/commits/([^/]+)", "commits"),
    ("GET", r"/api/models", "listing"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", rf"/api/models/{_ID}/preupload/([^/]+)", "preupload"),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs-put/([0-9a-f]{64})", "lfs_put"),
    ("POST", rf"/api/models/{_ID}/commit/([^/]+)", "make_commit"),
    ("POST", rf"/api/models/{_ID}/tag/([^/]+)", "make_tag"),
    ("POST", r"/api/collections", "make_collection"),
    ("GET", rf"/api/collections/{_ID}", "collection"),
    ("POST", rf"/api/collections/{_ID}/items?", "add_item"),
]
