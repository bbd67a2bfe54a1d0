from pathlib import Path

from tests.docs.catalogue import catalogue

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"


def test_event_catalogue_is_what_the_code_says():
    assert PAGE.read_text() == catalogue(), (
        "python -m tests.docs.catalogue > docs/reference/events.md"
    )
