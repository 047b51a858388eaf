"""A Hub, asked over HTTP: huggingface_hub's own session (proxies, certificates, offline mode), our own redirects.

The token (environment, then HF's file: huggingface_hub.get_token) goes to the endpoint's own host and nowhere else;
no message holds it, nor the query of a signed address. Errors follow utils/_http.py: X-Error-Code, X-Error-Message.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from cachetui import __version__
from cachetui.download import errors
from cachetui.download.errors import PullError

if TYPE_CHECKING:
    import httpx2

RETRY_STATUS = frozenset((408, 429, 500, 502, 503, 504))
_MAX_REDIRECTS = 20
_MAX_ANSWER = 64 << 20
_SMALL = 1 << 16
_TRIES = 5
_WORDS = 300
_PORTS = {"http": 80, "https": 443}


class Unavailable(Exception):
    """The server did not answer as it should; trying again may help. `after`: seconds it asked to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(slots=True)
class Answer:
    """A response whose body is yet to be read, and what the redirects before it said."""

    response: httpx2.Response
    url: str
    """Where it came from in the end."""
    linked_size: int | None = None
    """X-Linked-Size of the Hub's redirect: bytes of the file."""

    @property
    def status(self) -> int:
        """HTTP status."""
        return int(self.response.status_code)

    def header(self, name: str) -> str:
        """A header of the last response; empty where it is missing."""
        return str(self.response.headers.get(name, ""))


class Client:
    """One Hub. Its methods may be called from any thread."""

    def __init__(
        self, timeout: float | None = None, tries: int = _TRIES, told: Callable[[str], object] | None = None
    ) -> None:
        import httpx2
        from huggingface_hub import constants, get_token
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        self.endpoint: str = constants.ENDPOINT
        self.timeout = float(constants.HF_HUB_DOWNLOAD_TIMEOUT) if timeout is None else timeout
        """Seconds without a byte before a connection is given up."""
        self.tries = tries
        """How often the API is asked before it counts as unreachable: once where a person waits."""
        self.told = told
        """Called with words before each pause in which nothing happens."""
        self.offline = bool(constants.is_offline_mode())
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        self.has_token = bool(token)
        self._httpx = httpx2
        plain = build_hf_headers(token=False, library_name="cachetui", library_version=__version__)
        self._plain: dict[str, str] = {**plain, "Accept-Encoding": "identity"}
        self._secret: dict[str, str] = {"authorization": f"Bearer {token}"} if token else {}

    @property
    def transient(self) -> tuple[type[Exception], ...]:
        """What connections raise that may work the next time."""
        return (self._httpx.TransportError, Unavailable)

    def json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """What an address of the API answers (path or full URL). Raises PullError."""
        return self._json(path if "://" in path else self.endpoint + path, params)[0]

    def pages(self, path: str, params: dict[str, Any]) -> Iterator[Any]:
        """The elements of a list that comes in pages (`Link: <...>; rel="next"`). Raises PullError."""
        url: str | None = self.endpoint + path
        query: dict[str, Any] | None = params
        while url is not None:
            found, url = self._json(url, query)
            if not isinstance(found, list):
                raise PullError(errors.SERVER, f"{where(self.endpoint)} answers no list; it may be no Hub")
            yield from found
            query = None

    def _json(self, url: str, params: dict[str, Any] | None) -> tuple[Any, str | None]:
        wait = 1.0
        for attempt in range(self.tries):
            try:
                with self.open("GET", url, params=params) as answer:
                    self.must_be_ok(answer)
                    body = _read(answer.response)
                    try:
                        return _parse(body), answer.response.links.get("next", {}).get("url")
                    except ValueError:
                        raise PullError(
                            errors.SERVER,
                            f"{where(url)} answers something that is not JSON",
                            "is HF_ENDPOINT a Hub? a login page of a network answers like this too",
                        ) from None
            except self.transient as e:
                if attempt == self.tries - 1:
                    raise self.unreachable(url, e) from e
                after = e.after if isinstance(e, Unavailable) and e.after is not None else wait
                if after > 60:
                    raise self.unreachable(url, e) from e
                if self.told is not None:
                    self.told(f"{where(url)} does not answer; asking again in {after:.0f} s")
                time.sleep(after)
                wait = min(wait * 2, 8.0)
        raise AssertionError

    @contextmanager
    def open(
        self, method: str, url: str, headers: dict[str, str] | None = None, params: dict[str, Any] | None = None
    ) -> Iterator[Answer]:
        """Ask, and follow redirects: the token goes to the endpoint's host only. Raises PullError, `transient`."""
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

        limits = self._httpx.Timeout(self.timeout)
        size: int | None = None
        for _ in range(_MAX_REDIRECTS):
            sent = {**self._plain, **(self._secret if self._is_ours(url) else {}), **(headers or {})}
            try:
                session = get_session()
                request = session.build_request(method, url, headers=sent, params=params, timeout=limits)
                response = session.send(request, stream=True, follow_redirects=False)
            except OfflineModeIsEnabled:
                raise offline() from None
            except (self._httpx.InvalidURL, self._httpx.UnsupportedProtocol) as e:
                raise PullError(errors.SERVER, f"{where(url)} is no address that can be asked: {e}") from e
            try:
                size = _number(response.headers.get("X-Linked-Size")) or size
                if not response.has_redirect_location:
                    yield Answer(response, str(response.url), size)
                    return
                if (_number(response.headers.get("Content-Length")) or 0) <= _SMALL:
                    response.read()  # so that its connection is used again
                url, params = urljoin(str(response.url), response.headers["Location"]), None
            finally:
                response.close()
        raise PullError(errors.SERVER, f"{where(url)} redirects in a circle")

    def _is_ours(self, url: str) -> bool:
        return _origin(url) == _origin(self.endpoint)

    def must_be_ok(self, answer: Answer) -> None:
        """Raise PullError for what is final, Unavailable for what may pass."""
        if answer.status < 400:
            return
        if answer.status in RETRY_STATUS:
            raise Unavailable(f"{where(answer.url)} answers {answer.status}", _retry_after(answer))
        raise self.refusal(answer)

    def refusal(self, answer: Answer) -> PullError:
        """What a refusing response means, and what to do."""
        code, words = answer.header("X-Error-Code"), answer.header("X-Error-Message")[:_WORDS]
        login = "log in with: hf auth login (or set HF_TOKEN)"
        if code == "GatedRepo":
            todo = f"open the model's page on {where(self.endpoint)}, accept its licence"
            return PullError(
                errors.GATED,
                f"it is gated{f': {words}' if words else ''}",
                todo + ("" if self.has_token else f", then {login}"),
            )
        if code == "RevisionNotFound":
            return PullError(errors.NO_REVISION, "there is no such revision", "see the branches on the model's page")
        if code == "EntryNotFound":
            return PullError(errors.NO_FILE, "there is no such file in it", "")
        if answer.status == 401 and self.has_token and code != "RepoNotFound":
            return PullError(errors.DENIED, f"the token is refused{f': {words}' if words else ''}", login)
        if code == "RepoNotFound" or answer.status in (401, 404):
            hint = "check its name; " + ("your token may lack the right to see it" if self.has_token else login)
            return PullError(errors.NO_REPO, "it does not exist, or it is private", hint)
        said = f"{where(answer.url)} answers {answer.status}{f': {words}' if words else ''}"
        return PullError(errors.DENIED if answer.status == 403 else errors.SERVER, said, "")

    def unreachable(self, url: str, error: Exception) -> PullError:
        """After the last try."""
        if isinstance(error, Unavailable):
            busy = f"; it asks to wait {error.after:.0f} s" if error.after is not None else ""
            return PullError(errors.BUSY, f"{error}{busy}", "try again later: it goes on where it stopped")
        words = str(error).split("\n")[0][:_WORDS] or type(error).__name__
        return PullError(
            errors.UNREACHABLE, f"{where(url)} cannot be reached ({words})", "check the network, proxy and HF_ENDPOINT"
        )


def offline() -> PullError:
    """HF_HUB_OFFLINE is set."""
    return PullError(errors.OFFLINE, "HF_HUB_OFFLINE is set: nothing is asked of the network", "unset it to download")


def where(url: str) -> str:
    """Host and port of an address: neither a user in it nor a signed query is shown."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the server"
    return f"{parts.hostname or 'the server'}{port}"


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", "", -1


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 20 else None


def _read(response: httpx2.Response) -> bytes:
    """The body of an API's answer, capped."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _MAX_ANSWER:
            raise PullError(errors.SERVER, "its answer is too long to be a list of files")
    return bytes(body)


def _parse(body: bytes) -> Any:
    import json

    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _retry_after(answer: Answer) -> float | None:
    """Seconds a server asks to wait: Retry-After as a number or a date, or the t= of a used-up `ratelimit`."""
    text = answer.header("Retry-After").strip()
    if text.isdigit() and len(text) < 10:
        return float(text)
    if text:
        try:
            return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
        except (ValueError, TypeError, OverflowError):
            pass
    if answer.status == 429:
        from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

        limit = parse_ratelimit_headers(answer.response.headers)
        if limit is not None and limit.remaining == 0:
            return float(limit.reset_in_seconds) + 1
    return None
