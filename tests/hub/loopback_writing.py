"""The writing half of the loopback Hub: repositories, uploads, commits, tags, collections."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote

DATE = "2026-01-01T00:00:00.000Z"
LFS_SUFFIXES = (".safetensors", ".bin", ".pth")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


class Writing:
    """Mixed into the handler, which gives ``owner``, ``body``, ``json``, ``send``, ``refuse`` and ``look``."""

    owner: Any
    body: Any
    json: Any
    send: Any
    refuse: Any
    look: Any

    def create(self) -> None:
        wanted = json.loads(self.body())
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        if name in self.owner.repos:
            return self.json({"error": "exists", "url": f"{self.owner.url}/{name}"}, 409)
        self.owner.repo(name)
        self.json({"url": f"{self.owner.url}/{name}", "name": name, "id": name})

    def validate_yaml(self) -> None:
        self.body()
        self.json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        files = json.loads(self.body())["files"]
        rows = [
            {"path": f["path"], "uploadMode": "lfs" if is_lfs(f["path"]) else "regular", "shouldIgnore": False}
            for f in files
        ]
        self.json({"files": rows})

    def lfs_batch(self, name: str) -> None:
        wanted = json.loads(self.body())
        rows = []
        for item in wanted["objects"]:
            row: dict[str, Any] = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in self.owner.uploads:
                row["actions"] = {"upload": {"href": f"{self.owner.url}/lfs-put/{item['oid']}"}}
            rows.append(row)
        self.json({"transfer": "basic", "objects": rows})

    def lfs_put(self, oid: str) -> None:
        data = self.body()
        if sha256(data) != oid:
            return self.refuse(400)
        self.owner.uploads[oid] = data
        self.send(200)

    def make_commit(self, name: str, revision: str) -> None:
        files: dict[str, bytes | None] = {}
        title = ""
        for line in self.body().splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "header":
                title = value["summary"]
            elif row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.owner.uploads[value["oid"]]
            elif row["key"] == "deletedFile":
                files[value["path"]] = None
        oid = self.owner.repos[name].commit(files, title, unquote(revision))
        self.json(
            {"success": True, "commitOid": oid, "commitUrl": f"{self.owner.url}/{name}/commit/{oid}", "hookOutput": ""}
        )

    def make_tag(self, name: str, revision: str) -> None:
        tag = json.loads(self.body())["tag"]
        if found := self.look(name, revision):
            found[0].tags[tag] = found[1].oid
            self.json({})

    def make_collection(self) -> None:
        wanted = json.loads(self.body())
        slug = f"{wanted['namespace']}/{re.sub(r'[^a-z0-9]+', '-', wanted['title'].lower()).strip('-')}-0"
        if slug in self.owner.collections:
            return self.json({"error": "exists", "slug": slug}, 409)
        row = {
            "slug": slug, "title": wanted["title"], "owner": {"name": wanted["namespace"]}, "items": [], "position": 0,
            "lastUpdated": DATE, "private": False, "theme": "blue", "upvotes": 0, "description": "",
        }  # fmt: skip
        self.owner.collections[slug] = row
        self.json(row)

    def collection(self, slug: str) -> None:
        row = self.owner.collections.get(slug)
        self.json(row) if row else self.refuse(404)

    def add_item(self, slug: str) -> None:
        item = json.loads(self.body())["item"]
        row = self.owner.collections[slug]
        if any(i["id"] == item["id"] for i in row["items"]):
            return self.json({"error": "exists"}, 409)
        row["items"].append({"_id": str(len(row["items"])), "id": item["id"], "type": item["type"], "position": 0})
        self.json(row)
