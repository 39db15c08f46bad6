import re
from pathlib import Path

import pytest

from anaphora.deliveries import errors
from anaphora.deliveries.errors import Diagnosis
from delivery_s3 import diagnoses
from delivery_s3.models import S3Interface

TROUBLESHOOTING = Path(__file__).parent.parent.parent / "docs" / "troubleshooting.md"
# Not DIAGNOSES, which also contains the diagnoses of the sample destination of the tests.
CATALOGUE = [each for module in (errors, diagnoses) for each in vars(module).values() if isinstance(each, Diagnosis)]


@pytest.mark.parametrize("diagnosis", CATALOGUE, ids=lambda diagnosis: diagnosis.code)
def test_every_entry_has_a_meaning_and_a_remedy(diagnosis: Diagnosis) -> None:
    assert diagnosis.title == diagnosis.title.strip()
    assert diagnosis.meaning.endswith(".")
    assert diagnosis.remedy.endswith(".")
    assert len(diagnosis.code) <= 40
    if diagnosis.field:
        S3Interface._meta.get_field(diagnosis.field)


def test_the_five_errors_of_the_manual_are_in_the_catalogue() -> None:
    titles = [diagnosis.title for diagnosis in CATALOGUE]
    for words in (
        "Access Denied",
        "Invalid credentials",
        "Bucket not found",
        "Connection timeout",
        "SSL certificate error",
    ):
        assert any(title.startswith(words) for title in titles), words


def test_each_title_is_unique() -> None:
    titles = [diagnosis.title for diagnosis in CATALOGUE]
    assert len(set(titles)) == len(titles)


def test_troubleshooting_has_a_section_for_every_entry() -> None:
    """`python -m delivery_s3.diagnoses` prints the sections; see docs/development.md."""
    text = TROUBLESHOOTING.read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == [diagnosis.title for diagnosis in CATALOGUE]
    for diagnosis in CATALOGUE:
        assert diagnosis.meaning in text
        assert diagnosis.remedy in text
