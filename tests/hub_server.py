"""A Hub on loopback for tests: what `huggingface_hub` and `datasets` call, with faults on purpose.

with HubServer(token="hf_test") as hub:
    subprocess.run([...], env={**os.environ, **hub.environment()})   # HF_ENDPOINT must be set before the import
    hub.files("dataset", "me/set")                                   # path → bytes
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Fault = int | str | tuple[int, str] | None
FIRST = "0" * 40
DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    """A file's content; `lfs` as it was uploaded."""

    data: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class Repo:
    """A repository: its commits in order, each with a whole file tree."""

    private: bool
    sdk: str | None = None
    commits: list[tuple[str, str, dict[str, Blob]]] = field(default_factory=lambda: [(FIRST, "initial commit", {})])

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    def tree(self, revision: str) -> dict[str, Blob] | None:
        if revision == "main":
            return self.commits[-1][2]
        return next((tree for sha, _, tree in self.commits if sha == revision), None)

    def sha(self, revision: str) -> str:
        return self.head if revision == "main" else revision


class HubServer:
    """Repositories and collections in memory, served over HTTP.

    Args:
        token: the one token that may write and see private repositories; others get a 401.
        fault: from the request's number (1, 2, …), method and path to what goes wrong: an HTTP status,
            (429, Retry-After), "cut" (the connection ends before the body is read or the reply is whole), or `None`.
        lfs_from: files of at least so many bytes are uploaded by LFS, smaller ones in the commit.
    """

    def __init__(
        self,
        token: str = "hf_test",
        fault: Callable[[int, str, str], Fault] = lambda number, method, path: None,
        lfs_from: int = 10_000,
    ):
        self.token, self.fault, self.lfs_from = token, fault, lfs_from
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.collections: dict[str, dict] = {}
        self.log: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self._http: ThreadingHTTPServer | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def environment(self, token: bool = True) -> dict[str, str]:
        """Variables that point a fresh process at this Hub."""
        found = {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        return {**found, "HF_TOKEN": self.token} if token else found

    def files(self, kind: str, name: str) -> dict[str, bytes]:
        """The files of a repository as they are now."""
        return {path: blob.data for path, blob in self.repos[kind, name].commits[-1][2].items()}

    def create(self, kind: str, name: str, files: dict[str, bytes] | None = None, private: bool = False) -> Repo:
        """Make a repository, with a first commit where files are given."""
        repo = self.repos[kind, name] = Repo(private)
        if files:
            self.commit(repo, "first files", {path: Blob(data) for path, data in files.items()})
        return repo

    def commit(self, repo: Repo, title: str, tree: dict[str, Blob]) -> str:
        """Add a commit with this whole tree; returns its sha."""
        text = json.dumps([repo.head, title, sorted((path, blob.sha256) for path, blob in tree.items())])
        sha = hashlib.sha1(text.encode()).hexdigest()
        repo.commits.append((sha, title, tree))
        return sha

    def __enter__(self) -> HubServer:
        self._http = _Http(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections are cut on purpose: nothing to report."""


class _Failed(Exception):
    """An error reply: status, the Hub's error code, message."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.code, self.message = status, code, message or code or f"made-up error {status}"


ROUTES: list[tuple[str, re.Pattern, str]] = []


def route(method: str, pattern: str):
    """Register a handler for a path; groups become arguments."""

    def register(function):
        ROUTES.append((method, re.compile(pattern + "$"), function.__name__))
        return function

    return register


KIND = "(models|datasets|spaces)"
NAME = "([^/]+/[^/]+?)"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET")

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def answer(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        with self.hub.lock:
            self.hub.log.append((method, path))
            number = len(self.hub.log)
        fault = self.hub.fault(number, method, path)
        if fault == "cut":
            self.rfile.read(min(1000, int(self.headers.get("Content-Length") or 0)))
            self.close_connection = True
            self.connection.close()
            return
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault is not None:
            status, after = fault if isinstance(fault, tuple) else (fault, None)
            self.reply_json({"error": f"made-up error {status}"}, status, {"Retry-After": after} if after else {})
            return
        try:
            self.dispatch("GET" if method == "HEAD" else method, path)
        except _Failed as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message} if error.code else {}
            self.reply_json({"error": error.message}, error.status, headers)

    def dispatch(self, method: str, path: str) -> None:
        for wanted, pattern, name in ROUTES:
            match = pattern.match(path)
            if wanted == method and match:
                with self.hub.lock:
                    getattr(self, name)(*match.groups())
                return
        raise _Failed(404, message=f"no such path: {method} {path}")

    # --- who may do what

    def may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def must_write(self) -> None:
        if not self.may_write():
            raise _Failed(401, message="Invalid username or password.")

    def repo(self, kind: str, name: str) -> Repo:
        found = self.hub.repos.get((kind.removesuffix("s"), name))
        if found is None or (found.private and not self.may_write()):
            raise _Failed(404 if self.may_write() else 401, "RepoNotFound", "Repository not found")
        return found

    def tree_of(self, kind: str, name: str, revision: str) -> tuple[Repo, dict[str, Blob]]:
        repo = self.repo(kind, name)
        tree = repo.tree(revision)
        if tree is None:
            raise _Failed(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo, tree

    # --- the API

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        self.must_write()
        self.reply_json({"type": "user", "name": "me", "fullname": "Me", "orgs": [], "auth": {"type": "access_token"}})

    @route("POST", "/api/repos/create")
    def create_repo(self) -> None:
        self.must_write()
        wanted = json.loads(self.body)
        kind, name = wanted.get("type") or "model", f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        there = (kind, name) in self.hub.repos
        prefix = "" if kind == "model" else f"{kind}s/"
        content = {"url": f"{self.hub.endpoint}/{prefix}{name}", "name": name}
        if there:
            self.reply_json({**content, "error": "You already created this repo"}, 409)
            return
        if wanted.get("visibility") == "private":
            wanted["private"] = True
        self.hub.repos[kind, name] = Repo(bool(wanted.get("private")), wanted.get("sdk"))
        self.reply_json(content)

    @route("GET", f"/api/{KIND}/{NAME}(?:/revision/(.+))?")
    def info(self, kind: str, name: str, revision: str | None) -> None:
        repo, tree = self.tree_of(kind, name, revision or "main")
        self.reply_json({
            "_id": "1", "id": name, "author": name.split("/")[0], "sha": repo.sha(revision or "main"), "private":
            repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "createdAt": DATE,
            "lastModified": DATE, "siblings": [{"rfilename": path} for path in sorted(tree)], "sdk": repo.sdk,
        })  # fmt: skip

    @route("POST", f"/api/{KIND}/{NAME}/preupload/(.+)")
    def preupload(self, kind: str, name: str, revision: str) -> None:
        self.must_write()
        _, tree = self.tree_of(kind, name, revision)
        files = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if file["size"] >= self.hub.lfs_from else "regular"
            old = tree.get(file["path"])
            oid = None if old is None else old.sha256 if old.lfs else old.oid
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.reply_json({"files": files})

    @route("POST", f"/(?:(datasets|spaces)/)?{NAME}.git/info/lfs/objects/batch")
    def lfs_batch(self, kind: str | None, name: str) -> None:
        self.must_write()
        self.repo(kind or "models", name)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            found = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                found["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}}
            objects.append(found)
        self.reply_json({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    @route("PUT", "/lfs/([0-9a-f]{64})")
    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Failed(400, message="the body's SHA-256 differs")
        self.hub.objects[oid] = self.body
        self.reply_json({})

    @route("POST", f"/api/{KIND}/{NAME}/commit/(.+)")
    def commit(self, kind: str, name: str, revision: str) -> None:
        self.must_write()
        repo, tree = self.tree_of(kind, name, revision)
        tree, title = dict(tree), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value.get("summary", "")
                if value.get("parentCommit") not in (None, repo.head):
                    raise _Failed(412, message="A commit has happened since. Please refresh and try again.")
            elif item["key"] == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"]))
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    raise _Failed(400, message=f"no such LFS object: {value['oid']}")
                tree[value["path"]] = Blob(self.hub.objects[value["oid"]], lfs=True)
            elif item["key"] == "deletedFile":
                tree.pop(value["path"])
            elif item["key"] == "deletedFolder":
                tree = {p: b for p, b in tree.items() if not p.startswith(value["path"].rstrip("/") + "/")}
        sha = self.hub.commit(repo, title, tree)
        prefix = "" if kind == "models" else f"{kind}/"
        self.reply_json({
            "success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{prefix}{name}/commit/{sha}",
            "hookOutput": "",
        })  # fmt: skip

    @route("GET", f"/api/{KIND}/{NAME}/tree/([^/]+)(?:/(.*))?")
    def list_tree(self, kind: str, name: str, revision: str, folder: str | None) -> None:
        _, tree = self.tree_of(kind, name, revision)
        start = f"{folder.rstrip('/')}/" if folder else ""
        inside = [path for path in tree if path.startswith(start)]
        if start and not inside:
            raise _Failed(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        recursive = self.query.get("recursive", "false").lower() in ("true", "1")
        self.reply_json(list(_entries(tree, inside, start, recursive)))

    @route("POST", f"/api/{KIND}/{NAME}/paths-info/(.+)")
    def paths_info(self, kind: str, name: str, revision: str) -> None:
        _, tree = self.tree_of(kind, name, revision)
        text = self.body.decode()
        wanted = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
        found = []
        for path in [wanted] if isinstance(wanted, str) else wanted:
            if path in tree:
                found.append(_file(path, tree[path]))
            elif any(other.startswith(f"{path.rstrip('/')}/") for other in tree):
                found.append(_directory(path.rstrip("/")))
        self.reply_json(found)

    @route("GET", f"/(?:(datasets|spaces)/)?{NAME}/resolve/([^/]+)/(.+)")
    def resolve(self, kind: str | None, name: str, revision: str, path: str) -> None:
        repo, tree = self.tree_of(kind or "models", name, revision)
        if path not in tree:
            raise _Failed(404, "EntryNotFound", f"{path} does not exist on {revision}")
        blob = tree[path]
        etag = blob.sha256 if blob.lfs else blob.oid
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repo.sha(revision), "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not match:
            self.reply(blob.data, 200, headers)
            return
        begin, size = int(match[1]), len(blob.data)
        end = min(int(match[2] or size - 1), size - 1)
        if begin >= size:
            self.reply(b"", 416, {**headers, "Content-Range": f"bytes */{size}"})
            return
        part = blob.data[begin : end + 1]
        self.reply(part, 206, {**headers, "Content-Range": f"bytes {begin}-{end}/{size}"})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        self.reply_json({"errors": [], "warnings": []})

    @route("POST", "/api/collections")
    def create_collection(self) -> None:
        self.must_write()
        wanted = json.loads(self.body)
        slug = f"{wanted['namespace']}/{re.sub('[^a-z0-9]+', '-', wanted['title'].lower()).strip('-')}-{1:024x}"
        there = slug in self.hub.collections
        if not there:
            self.hub.collections[slug] = {**_collection(slug, wanted), "items": []}
        self.reply_json(self.hub.collections[slug], 409 if there else 200)

    @route("GET", "/api/collections/([^/]+/[^/]+)")
    def get_collection(self, slug: str) -> None:
        self.reply_json(self.hub.collections[slug])

    @route("POST", "/api/collections/([^/]+/[^/]+)/items")
    def add_item(self, slug: str) -> None:
        self.must_write()
        collection, item = self.hub.collections[slug], json.loads(self.body)["item"]
        there = any(old["id"] == item["id"] for old in collection["items"])
        if not there:
            collection["items"].append({"_id": str(len(collection["items"])), "position": 0, **item,
                                        "repoType": item["type"]})  # fmt: skip
        self.reply_json(collection, 409 if there else 200)

    # --- replies

    def reply_json(self, content: Any, status: int = 200, headers: dict | None = None, kind="application/json"):
        self.reply(json.dumps(content).encode(), status, headers, kind)

    def reply(self, data: bytes, status: int, headers: dict | None = None, kind: str = "application/octet-stream"):
        with suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)


def _entries(tree: dict[str, Blob], inside: list[str], start: str, recursive: bool) -> Iterator[dict]:
    folders = set()
    for path in inside:
        parts = path[len(start) :].split("/")[:-1]
        for depth in range(len(parts) if recursive else min(1, len(parts))):
            folders.add(start + "/".join(parts[: depth + 1]))
    yield from (_directory(folder) for folder in sorted(folders))
    for path in sorted(inside):
        if recursive or "/" not in path[len(start) :]:
            yield _file(path, tree[path])


def _directory(path: str) -> dict:
    return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}


def _file(path: str, blob: Blob) -> dict:
    found = {"type": "file", "oid": blob.oid, "size": len(blob.data), "path": path}
    if blob.lfs:
        found["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
    return found


def _collection(slug: str, wanted: dict) -> dict:
    return {
        "slug": slug, "title": wanted["title"], "description": wanted.get("description"), "lastUpdated": DATE,
        "owner": {"name": wanted["namespace"], "type": "user"}, "position": 0, "private": wanted.get("private", False),
        "theme": "blue", "upvotes": 0, "isUpvotedByUser": False,
    }  # fmt: skip
