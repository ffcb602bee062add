"""The app's server: it listens on this machine alone and answers only the page that has its token."""

import asyncio
import json
import secrets
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from functools import partial
from importlib.resources import files
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import numpy as np
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nuclear_diffusion import signals
from nuclear_diffusion.app.desk import Desk, Opened, is_result, sentence
from nuclear_diffusion.app.export import KINDS, export, name_of, safe
from nuclear_diffusion.app.regions import Regions, masks_zip, scores
from nuclear_diffusion.errors import InputError, require
from nuclear_diffusion.io.find import Frames, find_clips
from nuclear_diffusion.measure.style import look_of
from nuclear_diffusion.reporting import sentence_of
from nuclear_diffusion.restore.folder import read_report
from nuclear_diffusion.restore.methods import METHODS, as_dict
from nuclear_diffusion.restore.pictures import caption

UPLOAD_BYTES = 2 * 2**30  # largest upload
NAME = 255  # characters of a file name that are kept
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:"


class OnlyThePage:
    """Let requests to /api through only with the token, and none that another site's page sent."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        origin = request.headers.get("origin")
        own = f"{request.url.scheme}://{request.headers.get('host', '')}"
        given = request.headers.get("x-token") or request.query_params.get("token", "")
        open_to_all = request.url.path.startswith("/static/")
        foreign = origin not in (None, own) or request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if foreign or not (open_to_all or secrets.compare_digest(given.encode(), self.token.encode())):
            refused = PlainTextResponse("Open the address that nuclear-diffusion app has printed, with its token.", 403)
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)


class Server:
    """The routes of the app on a desk."""

    def __init__(self, desk: Desk, token: str, upload_bytes: int = UPLOAD_BYTES):
        self.desk, self.token, self.upload_bytes = desk, token, upload_bytes

    def app(self) -> Starlette:
        """The ASGI application."""
        # handlers that are no coroutines run in threads, so that the page is answered whatever they take
        routes = [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/api/state", self.state),
            Route("/api/files", self.listing),
            Route("/api/results", self.results),
            Route("/api/file", self.file),
            Route("/api/clips", self.upload, methods=["POST"]),
            Route("/api/open", _told(self.open, dict[str, str]), methods=["POST"]),
            Route("/api/clips/{clip}", self.close, methods=["DELETE"]),
            Route("/api/clips/{clip}", self.clip),
            Route("/api/clips/{clip}/sector", _told(self.sector, Correction), methods=["POST"]),
            Route("/api/clips/{clip}/white", _told(self.white, dict[str, float | None]), methods=["POST"]),
            Route("/api/clips/{clip}/planes/input", self.plane),
            Route("/api/runs", _told(self.start, Wanted), methods=["POST"]),
            Route("/api/runs", self.runs),
            Route("/api/runs/{run}", self.remove, methods=["DELETE"]),
            Route("/api/runs/{run}/stop", self.stop, methods=["POST"]),
            Route("/api/runs/{run}/planes/{plane}", self.plane),
            Route("/api/score", _told(self.score, Asked), methods=["POST"]),
            Route("/api/masks", _told(self.masks, Asked), methods=["POST"]),
            Route("/api/save", _told(self.save, Asked), methods=["POST"]),
        ]
        guards = [
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(OnlyThePage, token=self.token),
        ]
        # a body that is nested too deeply is a `RecursionError`, a name that is too long an `OSError`
        unusable = (InputError, msgspec.MsgspecError, RecursionError, OSError)
        handlers: Any = dict.fromkeys(unusable, _refused)
        return Starlette(routes=routes, middleware=guards, exception_handlers=handlers)

    def page(self, request: Request) -> Response:
        """The page."""
        return _static("index.html")

    def static(self, request: Request) -> Response:
        """A file of the page, by its name."""
        return _static(request.path_params["name"])

    def state(self, request: Request) -> Response:
        """All that is open, so that a page that is loaded again goes on."""
        return Reply(
            {
                "clips": {key: opened.info() for key, opened in list(self.desk.clips.items())},
                "runs": self._runs(),
                "methods": {name: _help(name) for name in METHODS},
                "kinds": KINDS,
                "folders": [str(folder) for folder in self.desk.folders],
            }
        )

    def listing(self, request: Request) -> Response:
        """Names in a folder that may be opened; frames that are one clip have one name, as for `dehaze`."""
        folder = self._folder(request)
        try:
            found = find_clips(folder)
        except InputError:  # the same frames twice: whoever opens one chooses
            found = [path for path in folder.iterdir() if path.name[0] != "."]
        entries = chain.from_iterable(each.files if isinstance(each, Frames) else [each] for each in found)
        shown = sorted(entries, key=lambda path: not path.is_dir())
        return Reply(
            {
                "folder": str(folder),
                "up": str(folder.parent) if folder not in self.desk.folders else None,
                "entries": [
                    {"name": path.name, "path": str(path), "folder": path.is_dir(), "result": is_result(path)}
                    for path in shown[:2000]
                ],
            }
        )

    def results(self, request: Request) -> Response:
        """The reports of all results in a folder, for the sheet."""
        folder = self._folder(request)
        return Reply(sheet(folder))

    def _folder(self, request: Request) -> Path:
        folder = self.desk.allowed(request.query_params.get("folder", ""))
        require(folder.is_dir(), f"{folder} is not a folder: choose another.")
        return folder

    def file(self, request: Request) -> Response:
        """A video of a result, for the sheet."""
        path = self.desk.allowed(request.query_params.get("path", ""))
        require(path.suffix == ".mp4" and path.is_file(), "Only videos of results can be played here: choose one.")
        return FileResponse(path)

    async def upload(self, request: Request) -> Response:
        """Take a file that was dropped on the page, and open it."""
        name = Path(request.query_params.get("name", "")).name[-NAME:] or "clip"
        too_large = InputError(
            f"The file is larger than {self.upload_bytes / 2**30:g} GB: start the app with its path instead."
        )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self.upload_bytes:
            raise too_large
        path, size = self.desk.place_for(name), 0
        try:
            with path.open("wb") as target:
                async for part in request.stream():
                    size += len(part)
                    if size > self.upload_bytes:
                        raise too_large
                    target.write(part)
            return await run_in_threadpool(lambda: self._opened(self.desk.open(path, name)))
        except BaseException as error:
            shutil.rmtree(path.parent)
            if isinstance(error, InputError):  # the user does not know the path here
                raise InputError(str(error).replace(str(path), name)) from error
            raise

    def open(self, request: Request, body: dict[str, str]) -> Response:
        """Open a path below the given folders."""
        return self._opened(self.desk.open_inside(body.get("path", "")))

    def white(self, request: Request, body: dict[str, float | None]) -> Response:
        """Read a clip again with another white."""
        return Reply(self.desk.reread(request.path_params["clip"], body.get("white")).info())

    def _opened(self, key: str) -> Response:
        runs = {name: run for name, run in self._runs().items() if run["clip"] == key}
        return Reply({"key": key, **self.desk.clip(key).info(), "runs": runs})

    def clip(self, request: Request) -> Response:
        """What was understood of a clip."""
        return Reply(self.desk.clip(request.path_params["clip"]).info())

    def close(self, request: Request) -> Response:
        """Take a clip off the desk."""
        self.desk.close(request.path_params["clip"])
        return Reply({})

    def sector(self, request: Request, change: "Correction") -> Response:
        """Correct the sector or the frame rate, or both."""
        return Reply(self.desk.correct(request.path_params["clip"], change.polygons, change.fps).info())

    def plane(self, request: Request) -> Response:
        """Raw values of one array of a clip or of a result; 16-bit for the haze fraction, else 8-bit."""
        wanted = request.path_params.get("plane", "input")
        if "run" in request.path_params:
            key = request.path_params["run"]
            clip = self.desk.run(key).clip
            require(wanted in self.desk.run(key).info()["planes"], f"This result has no {wanted}.")
        else:
            key, clip = None, request.path_params["clip"]
        self.desk.clip(clip)

        def raw() -> Iterator[bytes]:
            for film in self.desk.films(clip, key):
                plane = film.planes()[wanted]
                yield np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("<")).tobytes()

        return StreamingResponse(raw(), media_type="application/octet-stream")

    def start(self, request: Request, wanted: "Wanted") -> Response:
        """Start a method on a clip."""
        key = self.desk.start(wanted.clip, wanted.method)
        return Reply({"key": key, **self.desk.run(key).info()})

    def runs(self, request: Request) -> Response:
        """How far all runs are."""
        return Reply(self._runs())

    def _runs(self) -> dict[str, Any]:
        return {key: run.info() for key, run in list(self.desk.runs.items())}

    def stop(self, request: Request) -> Response:
        """Stop a run."""
        return Reply(self.desk.stop(request.path_params["run"]).info())

    def remove(self, request: Request) -> Response:
        """Forget a run, and stop it if it has not ended."""
        self.desk.remove(request.path_params["run"])
        return Reply({})

    def score(self, request: Request, asked: "Asked") -> Response:
        """The library's scores within the drawn regions, of the clip and of results."""
        opened = self._of_one_clip(asked)
        score = partial(scores, opened.clip, asked.regions, sector=opened.sector)
        found = {run: score(self.desk.signal(run, asked.strength)) for run in asked.runs}
        return Reply({"input": score(None), "results": found})

    def masks(self, request: Request, asked: "Asked") -> Response:
        """The drawn regions as masks, zipped."""
        clip = self._of_one_clip(asked).clip
        return _download(masks_zip(clip, asked.regions), f"{clip.name}-masks.zip")

    def save(self, request: Request, asked: "Asked") -> Response:
        """A result in one of `KINDS`."""
        require(bool(asked.runs) and asked.kind in KINDS, f"Choose a result and one of {', '.join(KINDS)}.")
        clip, results = self._of_one_clip(asked).clip, {}
        for run in asked.runs:
            method = self.desk.method_at(run, asked.strength)
            results[_unused(caption(method), results)] = (method, self.desk.pieces(run, asked.strength))
        name = name_of(asked.kind, clip, self.desk.run(asked.runs[0]).method)
        path = self.desk.place_for(f"result.{asked.kind}")
        try:
            export(path, asked.kind, clip, results)
        except BaseException:
            shutil.rmtree(path.parent)
            raise
        return FileResponse(path, filename=name, background=BackgroundTask(shutil.rmtree, path.parent))

    def _of_one_clip(self, asked: "Asked") -> Opened:
        """The clip, if all results that are asked about are of it."""
        for run in asked.runs:
            require(self.desk.run(run).clip == asked.clip, "The results are of another clip: choose them again.")
        return self.desk.clip(asked.clip)


def _told(handler: Callable[[Request, Any], Response], kind: Any) -> Callable[[Request], Awaitable[Response]]:
    """A handler that is given the request's body as a `kind`, and runs in a thread."""

    async def answer(request: Request) -> Response:
        body = msgspec.json.decode(await request.body(), type=kind)
        return await run_in_threadpool(handler, request, body)

    return answer


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """A run to start."""

    clip: str
    method: dict[str, Any]


class Correction(msgspec.Struct, forbid_unknown_fields=True):
    """What the user corrects of a clip."""

    polygons: list[list[tuple[float, float]]] | None = None  # the sector; an empty list: find it again, None: as it is
    fps: float | None = None  # None: as it is


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """A question about a clip and some of its results."""

    clip: str
    runs: Annotated[list[str], msgspec.Meta(max_length=100)] = []  # the results, the chosen one first
    strength: float | None = None
    regions: Regions = msgspec.field(default_factory=Regions)
    kind: str = ""


class Numbers(msgspec.Struct):
    """What the sheet shows of a report."""

    haze_energy_removed: float | None = None
    bright_tissue_lost: float | None = None
    bright_tissue_changed: float | None = None
    flicker: dict[str, float | None] = {}


def sheet(folder: Path) -> list[dict[str, Any]]:
    """One entry for each finished result directly in a folder."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        if not is_result(path):
            continue
        about: dict[str, Any] = {"name": path.name, "path": str(path)}
        try:
            numbers = msgspec.convert(read_report(path), Numbers)
        except (InputError, OSError) as error:
            found.append(about | {"problem": sentence_of(error)})
        except msgspec.ValidationError:
            found.append(about | {"problem": f"{path} is damaged: dehaze the clip again."})
        else:
            shown = msgspec.to_builtins(numbers) | {"flicker": numbers.flicker.get("signal")}
            found.append(about | shown | {"video": str(path / "comparison.mp4")})
    return found


def _help(name: str) -> dict[str, Any]:
    kind = METHODS[name]
    summary = (kind.__doc__ or "").strip().split("\n")[0]
    look = look_of(name)
    drawn = {"color": look.color, "dash": [] if isinstance(look.line, str) else list(look.line[1])}
    return {"title": look.title, "summary": summary, "defaults": as_dict(kind()), **drawn}


def _static(name: str) -> Response:
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    for package in ("nuclear_diffusion.app", "nuclear_diffusion.view"):
        place = files(package) / ("static" if package.endswith("app") else ".") / name
        if Path(name).name == name and Path(name).suffix in types and place.is_file():
            headers = {
                "content-security-policy": _POLICY,
                "referrer-policy": "no-referrer",
                "cache-control": "no-store",
            }
            return Response(place.read_bytes(), media_type=types[Path(name).suffix], headers=headers)
    return PlainTextResponse("There is no such page.", 404)


def _download(content: bytes, name: str) -> Response:
    return Response(content, headers={"content-disposition": f"attachment; filename*=utf-8''{quote(safe(name))}"})


def _unused(name: str, taken: Collection[str]) -> str:
    """A name that is not taken, numbered if it has to be."""
    return next(each for each in chain([name], (f"{name}, {k}" for k in count(2))) if each not in taken)


class Reply(JSONResponse):
    """JSON in ASCII: a file name may hold characters that UTF-8 has not."""

    def render(self, content: Any) -> bytes:
        """As bytes."""
        return json.dumps(content, allow_nan=False).encode("ascii")


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, msgspec.MsgspecError | RecursionError):
        error = InputError(f"The request cannot be understood: {error}.")
    return Reply({"error": sentence(error)}, 400)


def serve(paths: Sequence[Path], *, port: int = 0, browser: bool = True) -> None:
    """Open `paths` and serve the page until Ctrl-C. `port` 0: any free one."""
    import uvicorn

    folders = [path if path.is_dir() and not is_result(path) else path.absolute().parent for path in paths]
    desk, token = Desk(folders), secrets.token_urlsafe(24)
    try:
        desk.open_all(paths)
        listener = socket.create_server(("127.0.0.1", port))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
        print(f"Open {address}\nCtrl-C stops the app.", flush=True)
        if browser:
            import webbrowser

            webbrowser.open(address)
        settings = uvicorn.Config(Server(desk, token).app(), log_level="warning", access_log=False)
        asyncio.run(uvicorn.Server(settings).serve(sockets=[listener]))
    except KeyboardInterrupt:
        if signals.received == signal.SIGTERM:  # Ctrl-C is how the app ends
            raise
    finally:
        desk.shut()
