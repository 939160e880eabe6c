"""No rule without a case that shows where its advice leads."""

from csfs.domain.rule import Rule
from tests.domain.refusals_made import made, makers
from tests.mount.advice import test_in_project, test_project, test_storage
from tests.mount.advice.asking import CASES


def test_every_rule_has_a_case() -> None:
    assert all((test_in_project, test_project, test_storage)), "their cases are noted as they are imported"
    assert set(CASES) == set(Rule)


def test_commands_are_told_from_words() -> None:
    """Backquotes come in pairs: what stands between them is a command."""
    for name, maker in makers().items():
        advice = made(maker).advice
        assert advice.count("`") % 2 == 0, name
        between = advice.split("`")[::2]
        assert not [part for part in between if "csfs " in part or " -" in part], name
