"""Names and slugs."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.domain import names


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("My Protein, Data Collection (October 1 2022)", "CS-my-protein-data-collection-october-1-2022"),
        ("apoferritin", "CS-apoferritin"),
        ("  -- Two  words -- ", "CS-two-words"),
        ("Protéasome naïve Ångström", "CS-proteasome-naive-angstrom"),
        ("prote\u0301asome", "CS-proteasome"),
        ("ﬁbril ②", "CS-fibril-2"),
        ("İstanbul", "CS-istanbul"),
        ("Größe β7", "CS-gro-e-7"),
        ("a/b\\c:d", "CS-a-b-c-d"),
        ("../../etc/passwd", "CS-etc-passwd"),
        ("a\0b\nc", "CS-a-b-c"),
        ("", "CS-project"),
        ("   ", "CS-project"),
        ("!?/*&", "CS-project"),
        ("蛋白酶体", "CS-project"),
        ("蛋白酶体 T20S", "CS-t20s"),
        ("\ud800", "CS-project"),
    ],
)
def test_slug(title: str, expected: str) -> None:
    assert names.slug(title) == expected


def test_slug_of_a_long_title_is_cut() -> None:
    slug = names.slug("x" * 400)
    assert slug == "CS-" + "x" * (len(slug) - 3)
    assert len(slug) == names.NAME_MAX - 12


def test_slug_is_not_cut_after_a_hyphen() -> None:
    slug = names.slug("x" * (names.NAME_MAX - 12 - 4) + " tail")
    assert not slug.endswith("-")


@given(st.text(max_size=500))
def test_slug_is_always_a_name_for_a_file(title: str) -> None:
    slug = names.slug(title)
    assert slug.startswith("CS-")
    assert not slug.endswith("-")
    assert set(slug[3:]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert "--" not in slug
    assert len(slug.encode()) <= names.NAME_MAX


@given(st.text(max_size=40))
def test_slug_does_not_depend_on_the_normal_form(title: str) -> None:
    assert names.slug(title) == names.slug(unicodedata.normalize("NFC", title))


@given(st.text(max_size=400), st.integers(0, 40))
def test_unique_gives_the_first_free_name(title: str, taken: int) -> None:
    wanted = names.slug(title)
    there: set[str] = set()
    for _ in range(taken):
        found = names.unique(wanted, there.__contains__)
        assert found not in there
        assert len(found.encode()) <= names.NAME_MAX
        there.add(found)
    expected = {wanted, *(f"{wanted}-{number}" for number in range(2, taken + 1))}
    assert there == (expected if taken else set())


def test_unique_fills_a_gap() -> None:
    assert names.unique("CS-a", {"CS-a", "CS-a-3"}.__contains__) == "CS-a-2"


def test_the_longest_slug_has_room_for_a_suffix() -> None:
    wanted = names.slug("y" * 400)
    assert len(f"{wanted}-{2**32}") <= names.NAME_MAX


@pytest.mark.parametrize("name", ["J1", "J7", "J10", "J123456789"])
def test_names_of_jobs(name: str) -> None:
    assert names.is_job(name)


@pytest.mark.parametrize(
    "name",
    ["", "J", "J0", "J01", "j1", "J1 ", "J1\n", " J1", "J-1", "J1a", "S1", "P1", "J१", "J1.5", "\udcffJ1"],
)
def test_names_of_no_jobs(name: str) -> None:
    assert not names.is_job(name)


@given(st.integers(1, 2**32 - 1))
def test_project_uid_and_number(number: int) -> None:
    assert names.project_number(names.project_uid(number)) == number


@pytest.mark.parametrize("uid", ["", "P", "P0", "P01", "p1", "P1\n", "P1x", "J1", "P-1"])
def test_no_project_uid(uid: str) -> None:
    assert names.project_number(uid) is None
