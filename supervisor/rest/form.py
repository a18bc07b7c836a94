"""Forms and queries as Twilio's clients send them: names with one or more values. Pure."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from supervisor.phone.phone_call import CallRejected
from supervisor.rest.errors import Code, rejected, shown

MAX_FIELDS: Final = 100
MAX_URL_CHARACTERS: Final = 4000
NAME: Final = re.compile(r"[A-Za-z]{1,64}")
METHODS: Final = ("GET", "POST")


class Form:
    """The fields of a form. Which names were asked for is kept, so that the rest can be told.

    Raises:
        CallRejected: this is no URL-encoded UTF-8, or has too many fields.
    """

    def __init__(self, encoded: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        self._asked: set[str] = set()
        try:
            text = encoded.decode("ascii")
            fields = parse_qsl(
                text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            )
        except ValueError as error:
            what = f"needed is a URL-encoded form in UTF-8 of at most {MAX_FIELDS} fields: {error}"
            raise CallRejected(Code.BAD_REQUEST, 400, what) from error
        for name, value in fields:
            if value:
                self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """A field's last value; empty if there is none."""
        return (self.all(name) or [""])[-1]

    def all(self, name: str) -> list[str]:
        """A field's values, for those that may be repeated."""
        self._asked.add(name)
        return self._values.get(name, [])

    def whole_number(self, name: str, default: int, bounds: tuple[int, int], code: int) -> int:
        """A field from bounds[0] to bounds[1], both included; raises CallRejected."""
        text = self.text(name)
        if not text:
            return default
        least, most = bounds
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not least <= number <= most:
            raise rejected(code, name, text, f"a whole number from {least} to {most}")
        return number

    def choice(self, name: str, default: str, allowed: Iterable[str], code: int) -> str:
        """A field that is one of a few words; raises CallRejected."""
        text = self.text(name) or default
        if text not in allowed:
            raise rejected(code, name, text, " or ".join(allowed))
        return text

    def method(self, name: str) -> str:
        """How a URL is to be asked: GET or POST, which is the default; raises CallRejected."""
        return self.choice(name, "POST", METHODS, Code.INVALID_METHOD)

    def url(self, name: str, code: int = Code.INVALID_URL) -> str:
        """An absolute http or https URL, or empty; raises CallRejected."""
        text = self.text(name)
        if text and not _is_url(text):
            allowed = f"http(s)://host/... of at most {MAX_URL_CHARACTERS} characters"
            raise rejected(code, name, text, allowed)
        return text

    def flag(self, name: str) -> bool:
        """A field that is `true` or `false`, which is the default; raises CallRejected."""
        text = self.choice(name, "false", ("true", "false"), Code.INVALID_PARAMETER)
        return text == "true"

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Refuse fields that would change what the request means; raises CallRejected."""
        for name in names:
            if self.text(name):
                message = f"{name} is {shown(self.text(name))}; {why}"
                raise CallRejected(Code.INVALID_PARAMETER, 400, message)

    def ignored(self) -> list[str]:
        """The names of fields that nobody asked for; `?` for what can't be one, and may be data."""
        names = self._values.keys() - self._asked
        return sorted({name if NAME.fullmatch(name) else "?" for name in names})


def _is_url(text: str) -> bool:
    if len(text) > MAX_URL_CHARACTERS or any(c.isspace() or not c.isprintable() for c in text):
        return False
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
