import re
from pathlib import Path

import pytest

from anaphora.deliveries.errors import DIAGNOSES, Diagnosis
from delivery_s3.models import S3Interface

TROUBLESHOOTING = Path(__file__).parent.parent.parent / "docs" / "troubleshooting.md"


@pytest.mark.parametrize("diagnosis", DIAGNOSES.values(), ids=lambda diagnosis: diagnosis.code)
def test_every_entry_says_what_it_means_and_what_to_do(diagnosis: Diagnosis) -> None:
    assert diagnosis.title == diagnosis.title.strip()
    assert diagnosis.meaning.endswith(".")
    assert diagnosis.remedy.endswith(".")
    assert len(diagnosis.code) <= 40
    if diagnosis.field:
        S3Interface._meta.get_field(diagnosis.field)


def test_the_five_of_the_manual_are_there() -> None:
    titles = [diagnosis.title for diagnosis in DIAGNOSES.values()]
    for words in (
        "Access Denied",
        "Invalid credentials",
        "Bucket not found",
        "Connection timeout",
        "SSL certificate error",
    ):
        assert any(title.startswith(words) for title in titles), words


def test_no_code_stands_twice_and_no_title_either() -> None:
    titles = [diagnosis.title for diagnosis in DIAGNOSES.values()]
    assert len(set(titles)) == len(titles)


def test_troubleshooting_has_a_section_for_every_entry() -> None:
    """`python -m delivery_s3.diagnoses` prints the sections; see docs/development.md."""
    text = TROUBLESHOOTING.read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == [diagnosis.title for diagnosis in DIAGNOSES.values()]
    for diagnosis in DIAGNOSES.values():
        assert diagnosis.meaning in text
        assert diagnosis.remedy in text
