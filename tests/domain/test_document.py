"""Documents: checked as a whole, changed as little as possible."""

import errno
import json
import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.cli.sample.project import DATA
from csfs.domain import document
from csfs.domain.document import IDENTITY_KEYS, Document, Invalid, Kind
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule

OBJECTS = [Kind.PROJECT, Kind.JOB]


# JSON texts as any program might write them: any order, any white space, any spelling of a value.


class Spelt(str):
    """A number, as it stands in the text."""

    __slots__ = ()


NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0", "1E400", "-1e-05", "0.10000000000000000000001", "NaN", "Infinity", "-Infinity"]),
    st.integers(2, 600).map(lambda digits: "9" * digits),
).map(Spelt)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
KEYS = st.one_of(TEXTS, st.sampled_from([*IDENTITY_KEYS, "title", "status"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(NUMBERS, TEXTS, st.booleans(), st.none()),
    lambda values: st.one_of(st.lists(values, max_size=3), st.dictionaries(TEXTS, values, max_size=3)),
    max_leaves=6,
)
TOPS = st.dictionaries(KEYS, VALUES, max_size=6)


def spell(value: Any, chance: Random) -> str:
    """The value as a JSON text, with white space and escapes as chance has it."""
    if isinstance(value, Spelt):
        written = str(value)
    elif isinstance(value, dict):
        members = (f"{spell(key, chance)}:{spell(item, chance)}" for key, item in value.items())
        written = "{" + (",".join(members) or space(chance)) + "}"
    elif isinstance(value, list):
        written = "[" + (",".join(spell(item, chance) for item in value) or space(chance)) + "]"
    else:
        written = json.dumps(value, ensure_ascii=chance.random() < 0.5)
        if "\\" not in written and chance.random() < 0.3:
            written = "".join(
                f"\\u{ord(c):04x}" if isinstance(value, str) and c in "aeiu" else c for c in written
            )
    return space(chance) + written + space(chance)


def space(chance: Random) -> str:
    return "".join(chance.choices(" \t\r\n", k=chance.choice((0, 0, 0, 1, 3))))


@st.composite
def texts(draw: st.DrawFn, kind: Kind) -> str:
    chance = Random(draw(st.integers(0, 2**32)))
    return spell(draw(st.lists(TOPS, max_size=3) if kind is Kind.WORKSPACES else TOPS), chance)


IDENTITY_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "uid": st.sampled_from(["P1", "P12", "ä\n\"'"]),
        "uid_num": st.integers(0, 10**30),
        "project_uid": st.just("P12"),
        "project_dir": st.text(st.characters(codec="utf-8"), max_size=30),
        "archived": st.booleans(),
        "detached": st.booleans(),
    },
)


def exactly(text: str) -> Any:
    """The value of a JSON text in which every number keeps its spelling, and keys their order."""

    def spelt(written: str) -> tuple[str, str]:
        return ("number", written)

    return json.loads(
        text,
        parse_int=spelt,
        parse_float=spelt,
        parse_constant=spelt,
        object_pairs_hook=lambda pairs: ("object", pairs),
    )


def with_values(pairs: list[tuple[str, Any]], values: dict[str, Any]) -> list[tuple[str, Any]]:
    """What `rewritten` is to make of the members of an object."""
    present = {key for key, _ in pairs}
    new = [(key, exactly(json.dumps(value))) for key, value in values.items()]
    added = [(key, value) for key, value in new if key not in present and (key == "uid" or value is True)]
    kept = [(key, dict(new).get(key, value)) for key, value in pairs]
    return [*added, *kept]


@pytest.mark.parametrize("kind", Kind)
@given(data=st.data())
def test_rewritten_changes_the_given_values_and_nothing_else(kind: Kind, data: st.DataObject) -> None:
    text = data.draw(texts(kind))
    values = data.draw(IDENTITY_VALUES)
    before = document.parse(text.encode(), kind)
    assert before.encode() == text.encode()
    after = before.rewritten(values)
    found = exactly(after.text)
    tops = found if kind is Kind.WORKSPACES else [found]
    olds = exactly(text) if kind is Kind.WORKSPACES else [exactly(text)]
    assert len(tops) == len(olds) == len(after.objects)
    for (_, pairs), (_, old), parsed in zip(tops, olds, after.objects, strict=True):
        expected = with_values(old, values)
        added = len(expected) - len(old)
        assert sorted(pairs[:added], key=repr) == sorted(expected[:added], key=repr)
        assert pairs[added:] == expected[added:]
        assert set(parsed.members) == {key for key, _ in expected}
    assert document.parse(after.encode(), kind) == after
    assert after.rewritten(values) is after
    assert after == document.parse(after.encode(), kind)


@pytest.mark.parametrize("kind", Kind)
@given(data=st.data())
def test_bytes_outside_the_changed_values_stay(kind: Kind, data: st.DataObject) -> None:
    """With the new values cut out of the new text, and the old ones out of the old, both are the same."""
    text = data.draw(texts(kind))
    before = document.parse(text.encode(), kind)
    shared = (
        set(IDENTITY_KEYS).intersection(*(item.members for item in before.objects))
        if before.objects
        else set()
    )
    values = dict.fromkeys(shared, "a value of its own")
    after = before.rewritten(values)

    def without(found: Document) -> list[str]:
        spans = sorted(
            (item.members[key].start, item.members[key].end) for item in found.objects for key in values
        )
        edges = [0, *(edge for span in spans for edge in span), len(found.text)]
        return [found.text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]

    assert without(after) == without(before)


@given(st.data())
def test_members_stand_where_they_are_said_to(data: st.DataObject) -> None:
    found = document.parse(data.draw(texts(Kind.JOB)).encode(), Kind.JOB)
    whole = dict(exactly(found.text)[1])
    for key, member in found.head.members.items():
        assert exactly(found.text[member.start : member.end]) == whole[key]


@given(st.text(max_size=60))
def test_text_is_a_document_or_invalid_as_json_says(text: str) -> None:
    try:
        content = text.encode()
    except UnicodeEncodeError:
        return
    try:
        expected = isinstance(json.loads(content.decode()), dict)
    except ValueError:
        expected = False
    if expected:
        assert document.parse(content, Kind.JOB).encode() == content
    else:
        with pytest.raises(Invalid):
            document.parse(content, Kind.JOB)


@given(st.binary(max_size=60))
def test_no_bytes_make_parse_fail_otherwise(content: bytes) -> None:
    for kind in Kind:
        try:
            assert document.parse(content, kind).encode() == content
        except Invalid as error:
            assert str(error)


@pytest.mark.parametrize("name", [*sorted(path.name for path in DATA.glob("*job*.json")), "v5_project.json"])
def test_real_documents_round_trip(name: str) -> None:
    content = (DATA / name).read_bytes()
    found = document.parse(content, Kind.JOB)
    assert found.encode() == content
    again = found.rewritten({"uid": found.head.text("uid") or "J1", "archived": False})
    assert again.encode() == content


def test_real_workspaces_round_trip() -> None:
    content = (DATA / "v5_workspaces.json").read_bytes()
    found = document.parse(content, Kind.WORKSPACES)
    assert found.encode() == content
    assert len(found.objects) == len(json.loads(content))


# What is refused, and where it is said to be wrong.


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "line 1 column 1: Expecting an object"),
        (b"\n\n  ", "line 3 column 3: Expecting an object"),
        (b"[]", "line 1 column 1: Expecting an object"),
        (b'"text"', "line 1 column 1"),
        (b"null", "line 1 column 1"),
        (b"{", "line 1 column 2: Expecting property name"),
        (b"{a: 1}", "line 1 column 2: Expecting property name"),
        (b"{'a': 1}", "line 1 column 2: Expecting property name"),
        (b'{"a" 1}', "line 1 column 6: Expecting ':'"),
        (b'{"a":', "line 1 column 6: Expecting value"),
        (b'{"a": }', "line 1 column 7: Expecting value"),
        (b'{"a": nul}', "line 1 column 7: Expecting value"),
        (b'{"a": 1', "line 1 column 8: Expecting ','"),
        (b'{"a": 1,}', "line 1 column 9: Expecting property name"),
        (b'{\n  "a": 1\n  "b": 2\n}', "line 3 column 3: Expecting ','"),
        (b'{\n  "a": 1,\n  "b": [1, 2\n}', "line 4 column 1: Expecting ','"),
        (b'{\r\n  "a": x}', "line 2 column 8"),
        ('{"ä": "ö", "b": x}'.encode(), "line 1 column 17"),
        (b'{"a": "\n"}', "line 1 column 8: Invalid control character"),
        (b'{"a": "\\x"}', "line 1 column 8: Invalid \\escape"),
        (b'{"a": 01}', "line 1 column 8"),
        (b'{"a": .5}', "line 1 column 7"),
        (b'{"a": 1} {}', "line 1 column 10: Extra data"),
        (b"{}\x00", "line 1 column 3: Extra data"),
        (b'{"a": 1, "a": 2}', "The key 'a' stands twice"),
        (b'{"uid": "P1", "\\u0075id": "P2"}', "The key 'uid' stands twice"),
        (b"\xef\xbb\xbf{}", "line 1 column 1"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "byte 7 is not UTF-8"),
    ],
)
@pytest.mark.parametrize("kind", OBJECTS)
def test_what_is_wrong_is_named_with_its_place(kind: Kind, content: bytes, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        document.parse(content, kind)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", "line 1 column 1: Expecting an array of objects"),
        (b"{}", "line 1 column 1: Expecting an array of objects"),
        (b"[1]", "line 1 column 2: Expecting an object"),
        (b"[{}, []]", "line 1 column 6: Expecting an object"),
        (b"[{},]", "line 1 column 5: Expecting an object"),
        (b"[{} {}]", "line 1 column 5: Expecting ','"),
        (b"[{}", "line 1 column 4: Expecting ','"),
        (b"[", "line 1 column 2: Expecting an object"),
        (b"[{}]]", "line 1 column 5: Extra data"),
        (b'[{"uid": "W1"},\n {"uid": "W2", "uid": "W3"}]', "line 2 column 23: The key 'uid' stands twice"),
    ],
)
def test_workspaces_that_are_wrong(content: bytes, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        document.parse(content, Kind.WORKSPACES)
    assert where in str(caught.value)


@pytest.mark.parametrize("levels", [10_000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("kind", Kind)
def test_deep_nesting_is_invalid(kind: Kind, opening: str, closing: str, levels: int) -> None:
    inner = '{"a": ' + opening * levels + "1" + closing * levels + "}"
    text = f"[{inner}]" if kind is Kind.WORKSPACES else inner
    with pytest.raises(Invalid, match="nested too deeply"):
        document.parse(text.encode(), kind)


def test_nesting_as_in_real_documents_is_kept() -> None:
    text = '{"a": ' + "[" * 200 + "]" * 200 + ', "uid": "P1"}'
    after = document.parse(text.encode(), Kind.PROJECT).rewritten({"uid": "P2"})
    assert after.text == text.replace("P1", "P2")


def test_too_large() -> None:
    content = b'{"a": "' + b"x" * document.MAX_BYTES + b'"}'
    with pytest.raises(Invalid, match="bytes are more than"):
        document.parse(content, Kind.JOB)


# What is kept as it is.


@pytest.mark.parametrize(
    "written",
    [
        "9" * 600,
        "-" + "1" * 600,
        "1e-05",
        "1E400",
        "0.1000000000000000000000000000000001",
        "-0",
        "-0.0",
        "NaN",
        "Infinity",
        "-Infinity",
        '"\\ud83d\\ude00 \\u0000 \\/"',
        '"\\ud800"',
        '{"$date": "2024-05-15T10:00:00.673Z"}',
        '{"$date": 1715767200673}',
        '{"a": 1, "a": 2}',
    ],
)
def test_values_keep_their_spelling(written: str) -> None:
    text = '{"uid": "P1",\t"x": ' + written + ' ,"uid_num":1}'
    after = document.parse(text.encode(), Kind.PROJECT).rewritten({"uid": "P256", "uid_num": 256})
    assert after.text == '{"uid": "P256",\t"x": ' + written + ' ,"uid_num":256}'


def test_a_number_of_600_digits_as_identity() -> None:
    digits = "7" * 600
    found = document.parse(f'{{"uid_num": {digits}}}'.encode(), Kind.PROJECT)
    assert found.head.members["uid_num"].value == document.Number(digits)
    assert found.rewritten({"uid_num": 7}).text == '{"uid_num": 7}'


def test_values_of_any_type_are_replaced() -> None:
    text = '{"uid": {"a": [1, 2]}, "archived": null, "detached": "yes", "uid_num": "9"}'
    values: dict[str, document.Value] = {"uid": "P9", "archived": False, "detached": True, "uid_num": 9}
    after = document.parse(text.encode(), Kind.PROJECT).rewritten(values)
    assert after.text == '{"uid": "P9", "archived": false, "detached": true, "uid_num": 9}'


def test_only_a_uid_and_what_is_true_are_added() -> None:
    values: dict[str, document.Value] = {"uid": "P3", "uid_num": 3, "archived": True, "detached": False}
    after = document.parse(b'{ "title": "x" }', Kind.PROJECT).rewritten(values)
    assert json.loads(after.text) == {"uid": "P3", "archived": True, "title": "x"}
    assert after.text.endswith(' "title": "x" }')


def test_added_to_an_empty_object() -> None:
    after = document.parse(b"{\n}\n", Kind.PROJECT).rewritten({"uid": "P3", "archived": True})
    assert json.loads(after.text) == {"uid": "P3", "archived": True}
    assert after.text.endswith("\n}\n")


def test_nothing_to_change_is_the_same_document() -> None:
    found = document.parse(b'{"uid": "P1", "uid_num": 1, "archived": false}', Kind.PROJECT)
    assert found.rewritten({"uid": "P1", "uid_num": 1, "archived": False, "detached": False}) is found


def test_the_same_value_spelt_otherwise_is_no_change() -> None:
    found = document.parse(b'{"uid": "\\u00501"}', Kind.PROJECT)
    assert found.rewritten({"uid": "P1"}) is found


def test_nested_objects_are_left_alone() -> None:
    text = b'{"a": {"uid": "P9"}, "uid": "P9"}'
    after = document.parse(text, Kind.PROJECT).rewritten({"uid": "P1"})
    assert after.text == '{"a": {"uid": "P9"}, "uid": "P1"}'


def test_every_workspace_is_rewritten() -> None:
    text = b'[ {"uid": "W1", "project_uid": "P9"},\n{"project_uid" :"P9"} , {"uid": "W3"}]\n'
    after = document.parse(text, Kind.WORKSPACES).rewritten({"project_uid": "P2", "project_uid_num": 2})
    assert after.text == '[ {"uid": "W1", "project_uid": "P2"},\n{"project_uid" :"P2"} , {"uid": "W3"}]\n'


@pytest.mark.parametrize("text", ["[]", " [ ]\n", "[\n\n]"])
def test_no_workspaces(text: str) -> None:
    found = document.parse(text.encode(), Kind.WORKSPACES)
    assert found.objects == []
    assert found.identity() == []
    assert found.rewritten({"project_uid": "P1"}) is found
    assert document.edited(b"[]", found, "workspaces.json").objects == []
    assert len(document.edited(b'[{"uid": "W1"}]', found, "workspaces.json").objects) == 1


# What is read from a document.


def test_strings_and_lists_of_strings() -> None:
    head = document.parse(
        b'{"status": "killed", "title": 5, "type": null, "parents": ["J1", 2, null, "J3"], "x": {}}', Kind.JOB
    ).head
    assert head.text("status") == "killed"
    assert head.text("title", "none") == "none"
    assert head.text("type") == ""
    assert head.text("missing", "none") == "none"
    assert head.texts("parents") == ("J1", "J3")
    assert head.texts("x") == head.texts("status") == head.texts("missing") == ()


def test_half_a_surrogate_pair_is_read_as_its_escape() -> None:
    head = document.parse(b'{"title": "a\\ud800b", "parents": ["\\udfff"]}', Kind.JOB).head
    assert head.text("title") == "a\\ud800b"
    assert head.texts("parents") == ("\\udfff",)


def test_numbers_are_no_strings() -> None:
    number = document.Number("5")
    assert number != "5"
    assert number == document.Number("5")
    assert number != document.Number("5.0")
    assert hash(number) == hash(document.Number("5"))


# Edits.


PROJECT = document.parse(
    b'{"uid": "P1", "uid_num": 1, "project_dir": "/mnt/CS-x", "archived": false, "title": "old"}',
    Kind.PROJECT,
)
WORKSPACES = document.parse(b'[{"uid": "W1", "project_uid": "P1", "project_uid_num": 1}]', Kind.WORKSPACES)


def test_an_edit_gives_the_new_bytes() -> None:
    content = (
        b'{"title":"new","extra":[1],"archived":false,"uid_num":1,"project_dir":"/mnt/CS-x","uid":"P1"}\n\n'
    )
    assert document.edited(content, PROJECT, "project.json").encode() == content


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("uid", '{"uid": "P2", "uid_num": 1, "project_dir": "/mnt/CS-x", "archived": false}'),
        ("uid", '{"uid_num": 1, "project_dir": "/mnt/CS-x", "archived": false}'),
        ("uid_num", '{"uid": "P1", "uid_num": 2, "project_dir": "/mnt/CS-x", "archived": false}'),
        ("uid_num", '{"uid": "P1", "uid_num": "1", "project_dir": "/mnt/CS-x", "archived": false}'),
        ("project_dir", '{"uid": "P1", "uid_num": 1, "project_dir": "/mnt/CS-y", "archived": false}'),
        ("archived", '{"uid": "P1", "uid_num": 1, "project_dir": "/mnt/CS-x", "archived": true}'),
        ("archived", '{"uid": "P1", "uid_num": 1, "project_dir": "/mnt/CS-x", "archived": 0}'),
        (
            "detached",
            '{"uid": "P1", "uid_num": 1, "project_dir": "/mnt/CS-x", "archived": false, "detached": true}',
        ),
    ],
)
def test_an_edit_of_an_identity_key_is_refused(key: str, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        document.edited(text.encode(), PROJECT, "project.json")
    assert (caught.value.errno, caught.value.rule) == (errno.EINVAL, Rule.IDENTITY_KEY)
    assert caught.value.detail == f"project.json: {key}"


@pytest.mark.parametrize("key", IDENTITY_KEYS)
@pytest.mark.parametrize("kind", OBJECTS)
def test_every_identity_key_is_protected(kind: Kind, key: str) -> None:
    before = document.parse(json.dumps({key: "old", "title": "a"}).encode(), kind)
    assert (
        document.edited(json.dumps({"title": "b", key: "old"}).encode(), before, "d").head.text("title")
        == "b"
    )
    for text in (json.dumps({key: "new"}), "{}"):
        with pytest.raises(Refusal) as caught:
            document.edited(text.encode(), before, "d")
        assert caught.value.rule is Rule.IDENTITY_KEY


def test_workspaces_may_be_added_and_removed() -> None:
    added = b'[{"uid": "W1", "project_uid": "P1"}, {"uid": "W2", "project_uid": "P1"}, {"uid": "W3"}]'
    assert len(document.edited(added, WORKSPACES, "workspaces.json").objects) == 3
    assert document.edited(b"[]", WORKSPACES, "workspaces.json").objects == []


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("project_uid", '[{"uid": "W1", "project_uid": "P2"}]'),
        ("project_uid", '[{"uid": "W1", "project_uid": "P1"}, {"uid": "W2", "project_uid": "P2"}]'),
        ("project_uid_num", '[{"uid": "W1", "project_uid": "P1", "project_uid_num": 2}]'),
    ],
)
def test_a_workspace_of_another_project_is_refused(key: str, text: str) -> None:
    with pytest.raises(Refusal) as caught:
        document.edited(text.encode(), WORKSPACES, "workspaces.json")
    assert caught.value.rule is Rule.IDENTITY_KEY
    assert caught.value.detail == f"workspaces.json: {key}"


@pytest.mark.parametrize("content", [b"", b'{"uid": "P1"', b"[]", b'{"uid": "\xff"}'])
def test_an_edit_that_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        document.edited(content, PROJECT, "project.json")
    assert (caught.value.errno, caught.value.rule) == (errno.EINVAL, Rule.BAD_DOCUMENT)
    assert caught.value.detail.startswith("project.json: ")


def test_an_edit_names_line_and_column() -> None:
    with pytest.raises(Refusal) as caught:
        document.edited(b'{\n  "uid": "P1",\n  "title": \n}', PROJECT, "project.json")
    assert "line 4 column 1" in caught.value.detail


# New documents.


def test_a_new_project() -> None:
    values: dict[str, document.Value] = {
        "uid": "P7",
        "uid_num": 7,
        "project_dir": "/mnt/ä",
        "archived": False,
    }
    content = document.new_project(title="Größe “β”", created_at="2026-01-01T00:00:00.000Z", values=values)
    found = document.parse(content, Kind.PROJECT)
    assert content.endswith(b"}\n")
    assert found.head.text("title") == "Größe “β”"
    assert found.rewritten(values) is found
    assert json.loads(content)["created_at"] == {"$date": "2026-01-01T00:00:00.000Z"}


def test_new_workspaces() -> None:
    content = document.new_workspaces(
        created_at="2026-01-01T00:00:00.000Z", project_uid="P7", project_number=7
    )
    found = document.parse(content, Kind.WORKSPACES)
    assert [item.text("uid") for item in found.objects] == ["W1"]
    assert found.rewritten({"project_uid": "P7", "project_uid_num": 7}) is found


def test_no_document_that_csfs_makes_has_a_number_it_cannot_keep() -> None:
    content = document.new_project(title="x", created_at="now", values={"uid": "P1", "uid_num": 2**63})
    assert not any(
        isinstance(value, float) and not math.isfinite(value) for value in json.loads(content).values()
    )
    assert json.loads(content)["uid_num"] == 2**63
