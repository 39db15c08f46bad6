"""What a text file's bytes say, in whatever encoding a common program wrote it."""

import codecs
import re

from charset_normalizer import from_bytes

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Marks at the beginning; the first that fits counts (that of UTF-16 begins that of UTF-32)."""

_SAMPLE = 32 * 1024
"""Bytes that tell an encoding."""

_LATIN = {
    "cp1252": [
        "äöüß",  # German
        "àâæçéèêëîïôœùûüÿ",  # French
        "áéíóúüñºª",  # Spanish
        "áâãàçéêíóôõúüºª",  # Portuguese
        "àèéìîòóù",  # Italian
        "äöåé",  # Swedish, Finnish
        "æøåé",  # Danish, Norwegian
        "éèêëïöüç",  # Dutch, English
        "àçèéíïòóúü·",  # Catalan
    ],
    "cp1250": [
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "ąćęłńóśźż",  # Polish
        "áéíóöőúüű",  # Hungarian
        "čćđšž",  # Croatian, Slovene
        "ăâîşţ",  # Romanian
    ],
    "cp1254": ["çğıİöşüâîû"],  # Turkish
    "cp1257": ["ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"],  # Lithuanian, Latvian, Estonian
}
"""By code page, the letters beyond ASCII of each language that is written in it; the first that fits best counts.

charset-normalizer finds these code pages equally likely for most tables: they have few words, and the same bytes are
letters in all of them.
"""

_CYRILLIC = ("cp1251", "koi8_r")

_FREQUENT = frozenset("оеаинтсрвл")
"""The letters that make up most of a text in Russian, and much of one in another Slavic language."""

_FREQUENT_SHARE = 0.35
"""The least share of them in a text."""

_OTHERS = [
    "cp932", "gb18030", "big5", "euc_jp", "euc_kr", "cp1253", "cp1255", "cp1256", "cp874", "cp1252", "cp1251", "koi8_r",
]  # fmt: skip
"""What charset-normalizer is asked for."""

_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
_NO_LETTERS = re.compile(r"[\xa0€‚„“”‘’‹›«»…–—•°]+|^[¿¡]+|(?<=m)[²³]$")
"""Signs that stand beside words, or between them, in any language."""

_IDEOGRAPHS = re.compile("[\u4e00-\u9fff]")

_FITS = 0.9
"""The share of words that must be possible ones for a code page to be taken without asking charset-normalizer."""


def decode(data: bytes) -> str:
    """Return `data` as text. It may be cut in the middle of a character; what can't be read becomes U+FFFD.

    A mark at the beginning counts, then UTF-8, then what the bytes resemble most. Whether it is text at all is for the
    caller to tell.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4 and error.reason == "unexpected end of data":
            return data[: error.start].decode()
    return data.decode(_resembled(data[:_SAMPLE]), "replace")


def _resembled(sample: bytes) -> str:
    """Return the encoding whose words the sample has; only those with bytes beyond ASCII tell anything."""
    words = list(dict.fromkeys(_WORD.findall(sample)))
    latin, fits = max(((page, _latin_fit(words, page)) for page in _LATIN), key=lambda each: each[1])
    if fits >= _FITS:
        return latin
    cyrillic = max(_CYRILLIC, key=lambda page: _cyrillic_fit(words, page))
    if _cyrillic_fit(words, cyrillic)[0] >= _FITS:
        return cyrillic
    joined = b"".join(words)
    if sum(byte > 0x7F for byte in joined) < len(joined) / 2:
        # Most letters are ASCII's: a Western text with a few odd signs, which resemble anything.
        return latin
    best = from_bytes(sample, cp_isolation=_OTHERS).best()
    if best is None:
        return latin
    if best.encoding == "euc_kr" and _IDEOGRAPHS.search(sample.decode("euc_kr", "replace")):
        return "gb18030"  # Korean tables are written in Hangul alone; the same bytes are Chinese
    return best.encoding


def _parts(words: list[bytes], page: str) -> list[str]:
    """Return the words as read in a code page, without the signs beside them; nothing of those that are signs only."""
    texts = (_NO_LETTERS.sub(" ", word.decode(page, "replace")) for word in words)
    return [part for text in texts for part in text.split() if not part.isascii() and any(map(str.isalpha, part))]


def _latin_fit(words: list[bytes], page: str) -> float:
    """Return the share of words that the language that fits best can have."""
    parts = _parts(words, page)
    if not parts:
        return float(page == "cp1252")
    return max(
        sum(all(each.isascii() or each.lower() in letters or each in letters for each in part) for part in parts)
        for letters in _LATIN[page]
    ) / len(parts)


def _cyrillic_fit(words: list[bytes], page: str) -> tuple[float, float]:
    """Return the share of possible words, and of frequent letters: in the wrong code page, capitals end words."""
    parts = _parts(words, page)
    letters = "".join(parts).lower()
    frequent = sum(letter in _FREQUENT for letter in letters) / len(letters) if letters else 0.0
    if frequent < _FREQUENT_SHARE:
        return 0.0, frequent
    possible = sum(
        all("Ѐ" <= letter <= "ӿ" for letter in part) and (part[1:].islower() or part.isupper() or len(part) == 1)
        for part in parts
    )
    return possible / len(parts), frequent
