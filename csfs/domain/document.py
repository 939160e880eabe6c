"""Documents: project.json, workspaces.json, job.json, as text that csfs changes as little as it can.

A document stays the bytes that were written. csfs parses it to check it and to find where a value
stands; where it must change an identity key it replaces that value and leaves the rest of the text
alone: number precision, key order, indentation, a bare `Infinity` and a missing final newline all
survive. Source of the shapes: design section 5.
"""

import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from csfs.domain import names, refusals

MAX_BYTES = 64 * 1024 * 1024
"""A document larger than this is not taken; real ones are some 60 kB."""

IDENTITY_KEYS = (
    "uid",
    "uid_num",
    "project_uid",
    "project_uid_num",
    "project_dir",
    "archived",
    "detached",
)
"""Keys whose values are the instance's to set (design section 5)."""

_NEVER_MISSING = ("uid", "status")
"""Keys that are added to an object that does not have them, whatever their value."""

Value: TypeAlias = str | int | bool | list[str]
"""What csfs writes for a key: an identity key, a status, the parents of a job."""


class Kind(enum.Enum):
    PROJECT = names.PROJECT_DOCUMENT
    WORKSPACES = names.WORKSPACES_DOCUMENT
    JOB = names.JOB_DOCUMENT


class Invalid(Exception):
    """Text that is not a document of its kind; says where and why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One key of an object: its value, and where that stands in the text."""

    value: Any
    start: int
    end: int


@dataclass(slots=True)
class Object:
    """One JSON object: its members, and where its first member would stand."""

    open: int
    members: dict[str, Member] = field(default_factory=dict)

    def text(self, key: str, default: str = "") -> str:
        """The value of `key` if that is a string."""
        member = self.members.get(key)
        return next(strings([member.value] if member is not None else []), default)

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings in the list that `key` holds."""
        member = self.members.get(key)
        if member is None or not isinstance(member.value, list):
            return ()
        return tuple(strings(member.value))


class Number(str):
    """A number as it is written: 600 digits and `1e-05` keep their form. Equal to no string."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def strings(values: Iterable[Any]) -> Iterator[str]:
    """The strings among these values. Half of a surrogate pair, which JSON can spell, is escaped."""
    for value in values:
        if isinstance(value, str) and not isinstance(value, Number):
            yield value.encode(errors="backslashreplace").decode()


_decoder = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number)
_SPACE = " \t\n\r"


@dataclass(frozen=True, slots=True)
class Document:
    """A valid document: its text, and its objects (one, or one per workspace)."""

    kind: Kind
    text: str
    objects: list[Object]

    @property
    def head(self) -> Object:
        return self.objects[0]

    def encode(self) -> bytes:
        return self.text.encode()

    def rewritten(self, values: Mapping[str, Value]) -> "Document":
        """The same document with these identity keys set in each of its objects.

        A key that an object does not have is added only if it is true, a `uid` or a `status`.
        """
        edits: list[tuple[int, int, str]] = []
        for item in self.objects:
            edits.extend(_edits(item, values))
        if not edits:
            return self
        edits.sort(reverse=True)
        text = self.text
        for start, end, replacement in edits:
            text = text[:start] + replacement + text[end:]
        if len(self.objects) == 1 and all(start < end for start, end, _ in edits):
            replaced = {start: replacement for start, _, replacement in edits}
            return Document(self.kind, text, [_with_values(self.head, replaced)])
        return _parse_text(text, self.kind)

    def identity(self) -> list[dict[str, Any]]:
        """The identity keys of each object, for comparing two versions of a document."""
        return [
            {key: item.members[key].value for key in IDENTITY_KEYS if key in item.members}
            for item in self.objects
        ]


def _edits(item: Object, values: Mapping[str, Value]) -> Iterator[tuple[int, int, str]]:
    added: list[str] = []
    for key, value in values.items():
        written = json.dumps(value)
        member = item.members.get(key)
        if member is None:
            if value is True or key in _NEVER_MISSING:
                added.append(f"{json.dumps(key)}: {written}")
        elif member.value != (_decoder.decode(written)):
            yield member.start, member.end, written
    if added:
        yield item.open, item.open, ", ".join(added) + (", " if item.members else "")


def _with_values(item: Object, replaced: Mapping[int, str]) -> Object:
    """The object once other values stand where some stood: quicker than to parse the text again."""
    result, shift = Object(item.open), 0
    for key, member in item.members.items():
        start, written = member.start + shift, replaced.get(member.start)
        if written is None:
            result.members[key] = Member(member.value, start, member.end + shift)
        else:
            shift += len(written) - (member.end - member.start)
            result.members[key] = Member(_decoder.decode(written), start, start + len(written))
    return result


def parse(content: bytes, kind: Kind) -> Document:
    """The document that these bytes hold.

    Raises Invalid, naming line and column, for anything that is not one JSON value of the right
    shape: an object, or for workspaces.json an array of objects.
    """
    if len(content) > MAX_BYTES:
        raise Invalid(f"{len(content)} bytes are more than the {MAX_BYTES} a document may have")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"byte {error.start} is not UTF-8") from error
    return _parse_text(text, kind)


def _parse_text(text: str, kind: Kind) -> Document:
    try:
        if kind is Kind.WORKSPACES:
            objects, end = _array_of_objects(text, _skip(text, 0))
        else:
            item, end = _object(text, _skip(text, 0))
            objects = [item]
        end = _skip(text, end)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except json.JSONDecodeError as error:
        raise Invalid(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise Invalid("it is nested too deeply") from error
    return Document(kind, text, objects)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _decoder.raw_decode(text, at)
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, at) from error


def _object(text: str, at: int) -> tuple[Object, int]:
    if at >= len(text) or text[at] != "{":
        raise json.JSONDecodeError("Expecting an object", text, at)
    result = Object(open=at + 1)
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return result, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        key, at = _value(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
        start = _skip(text, at + 1)
        value, at = _value(text, start)
        if key in result.members:
            raise json.JSONDecodeError(f"The key {key!r} stands twice", text, start)
        result.members[key] = Member(value, start, at)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return result, at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _skip(text, at + 1)


def _array_of_objects(text: str, at: int) -> tuple[list[Object], int]:
    if at >= len(text) or text[at] != "[":
        raise json.JSONDecodeError("Expecting an array of objects", text, at)
    objects: list[Object] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return objects, at + 1
    while True:
        item, at = _object(text, at)
        objects.append(item)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return objects, at + 1
        if text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _skip(text, at + 1)


def edited(content: bytes, before: Document, name: str) -> Document:
    """The document that a user's edit of `before` gives.

    Raises Refusal EINVAL if it is not valid, or if an identity key is not what it was.
    """
    try:
        after = parse(content, before.kind)
    except Invalid as error:
        raise refusals.bad_document(name, str(error)) from error
    if before.kind is Kind.WORKSPACES:
        expected = before.identity()[0] if before.objects else {}
        for item in after.identity():
            for key in ("project_uid", "project_uid_num"):
                if key in expected and item.get(key, expected[key]) != expected[key]:
                    raise refusals.identity_key(name, key)
        return after
    old, new = before.identity()[0], after.identity()[0]
    for key in IDENTITY_KEYS:
        if old.get(key) != new.get(key):
            raise refusals.identity_key(name, key)
    return after


def new_project(*, title: str, created_at: str, values: Mapping[str, Value]) -> bytes:
    """The project.json of a project that csfs creates (v5 shape, the keys that csfs can fill)."""
    document: dict[str, Any] = {
        **values,
        "title": title,
        "description": "",
        "created_at": {"$date": created_at},
        "updated_at": {"$date": created_at},
        "users_with_access": [],
        "size": 0,
        "generate_intermediate_results_settings": {
            "class_2D_new": False,
            "class_3D": False,
            "var_3D_disp": False,
        },
        "deleted": False,
        "tags": [],
    }
    return _written(document)


def new_workspaces(*, created_at: str, project_uid: str, project_number: int) -> bytes:
    """The workspaces.json of a new project: one workspace W1."""
    workspace = {
        "uid": "W1",
        "uid_num": 1,
        "project_uid": project_uid,
        "project_uid_num": project_number,
        "workspace_type": "base",
        "title": "New Workspace",
        "description": "",
        "created_at": {"$date": created_at},
        "deleted": False,
        "tags": [],
    }
    return _written([workspace])


def new_job(*, uid: str, number: int, created_at: str, workspace: str, belongs: Mapping[str, Value]) -> bytes:
    """The job.json of a job that is made by `mkdir` (v4 shape, the keys that csfs can fill)."""
    job: dict[str, Any] = {
        "uid": uid,
        "uid_num": number,
        **belongs,
        "type": "",
        "job_type": "",
        "title": f"New Job {uid}",
        "description": "Enter a description.",
        "status": "building",
        "created_at": {"$date": created_at},
        "workspace_uids": [workspace],
        "job_dir": uid,
        "parents": [],
        "children": [],
        "deleted": False,
    }
    return _written(job)


def _written(value: Any) -> bytes:
    return (json.dumps(value, indent=4, ensure_ascii=False) + "\n").encode()
