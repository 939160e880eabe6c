"""What a terminal would obey is shown as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.domain.printable import printable, shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"CS-plain", "CS-plain"),
        ("größe β7 日本".encode(), "größe β7 日本"),
        (b"a\nb", "a\\x0ab"),
        (b"\x1b[31m\x7f", "\\x1b[31m\\x7f"),
        (b"\xff\xc3", "\\xff\\xc3"),
        ("\u202e\u2028".encode(), "\\u202e\\u2028"),
        ("\U000e0001".encode(), "\\U000e0001"),
    ],
)
def test_shown(name: bytes, text: str) -> None:
    assert shown(name) == text


@given(st.text())
def test_any_text_becomes_printable_and_stays_so(text: str) -> None:
    once = printable(text)
    assert once.isprintable()
    assert printable(once) == once
    once.encode()


@given(st.binary())
def test_any_name_becomes_printable(name: bytes) -> None:
    assert shown(name).isprintable()
