"""How the daemon's log looks: text for people, or one JSON object a line for programs that collect logs."""

import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType

import msgspec

from csfs.domain.printable import printable

FORMATS = ("text", "json")

_Problem = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def to_stderr(form: str, *, timed: bool = True) -> None:
    """Writes all that is logged to standard error; `timed`: lines of text begin with the time."""
    handler = logging.StreamHandler()
    time = "%(asctime)s " if timed else ""
    text = f"{time}%(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Object() if form == "json" else _OneLine(text))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _OneLine(logging.Formatter):
    """One record a line, whatever names and errors hold; a traceback follows in lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Problem) -> str:
        return "\n".join(_traceback(ei))


class _Object(logging.Formatter):
    """One JSON object a line. What the record says of a request is in it."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        shown: dict[str, object] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": printable(record.getMessage()),
        }
        for key, value in vars(record).get("request", {}).items():
            shown[key] = printable(value) if isinstance(value, str) else value
        if record.exc_info:
            shown["traceback"] = _traceback(record.exc_info)
        return msgspec.json.encode(shown).decode()


def _traceback(problem: _Problem) -> list[str]:
    """In lines, of which each is harmless to a terminal."""
    lines = "".join(traceback.format_exception(*problem)).splitlines()
    return [printable(line) for line in lines]
