"""Decodes text files and detects their encoding."""

import codecs
import re

from charset_normalizer import from_bytes

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The first match counts, because the byte order mark of UTF-32 LE starts with that of UTF-16 LE."""

_SAMPLE = 32 * 1024
"""Number of bytes used to detect the encoding."""

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
"""The non-ASCII letters of each language, by code page. Of equal matches, the first counts.

charset-normalizer cannot distinguish these code pages in most tables, because tables contain few words and the same
bytes are letters in all of them.
"""

_CYRILLIC = ("cp1251", "koi8_r")

_FREQUENT = frozenset("оеаинтсрвл")
"""The most frequent letters of Russian, which are frequent in other Slavic languages too."""

_FREQUENT_SHARE = 0.35
"""Minimum share of the frequent letters in a text."""

_OTHERS = [
    "cp932", "gb18030", "big5", "euc_jp", "euc_kr", "cp1253", "cp1255", "cp1256", "cp874", "cp1252", "cp1251", "koi8_r",
]  # fmt: skip
"""The encodings that charset-normalizer tries."""

_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
_SYMBOLS = re.compile(r"[\xa0€‚„“”‘’‹›«»…–—•°]+|^[¿¡]+|(?<=m)[²³]$")
"""Symbols and punctuation marks that occur in any language."""

_IDEOGRAPHS = re.compile("[\u4e00-\u9fff]")

_MIN_FIT = 0.9
"""Minimum share of plausible words for a code page to be chosen without charset-normalizer."""


def starts_with_byte_order_mark(data: bytes) -> bool:
    """Return whether `data` starts with the byte order mark of a Unicode encoding."""
    return data.startswith(tuple(_BYTE_ORDER_MARKS))


def decode(data: bytes) -> str:
    """Return `data` as text. `data` can be truncated inside a character. Invalid bytes become U+FFFD.

    A byte order mark determines the encoding, else UTF-8 is tried, else the most plausible encoding is used. The caller
    must check whether `data` is text at all.
    """
    for bom, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(bom):
            return data.decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4 and error.reason == "unexpected end of data":
            return data[: error.start].decode()
    return data.decode(_detect_encoding(data[:_SAMPLE]), "replace")


def _detect_encoding(sample: bytes) -> str:
    """Return the encoding in which most words are plausible. Only words with non-ASCII bytes are considered."""
    words = list(dict.fromkeys(_WORD.findall(sample)))
    latin, fits = max(((page, _latin_fit(words, page)) for page in _LATIN), key=lambda each: each[1])
    if fits >= _MIN_FIT:
        return latin
    cyrillic = max(_CYRILLIC, key=lambda page: _cyrillic_fit(words, page))
    if _cyrillic_fit(words, cyrillic)[0] >= _MIN_FIT:
        return cyrillic
    joined = b"".join(words)
    if sum(byte > 0x7F for byte in joined) < len(joined) / 2:
        # Mostly ASCII letters: a Western text with a few symbols, which are valid in any encoding.
        return latin
    best = from_bytes(sample, cp_isolation=_OTHERS).best()
    if best is None:
        return latin
    if best.encoding == "euc_kr" and _IDEOGRAPHS.search(sample.decode("euc_kr", "replace")):
        return "gb18030"  # Korean tables contain Hangul only; ideographs indicate Chinese
    return best.encoding


def _decoded_words(words: list[bytes], page: str) -> list[str]:
    """Return the words decoded with a code page, without symbols."""
    texts = (_SYMBOLS.sub(" ", word.decode(page, "replace")) for word in words)
    return [part for text in texts for part in text.split() if not part.isascii() and any(map(str.isalpha, part))]


def _latin_fit(words: list[bytes], page: str) -> float:
    """Return the share of words that are plausible in the best matching language of a code page."""
    parts = _decoded_words(words, page)
    if not parts:
        return float(page == "cp1252")
    return max(
        sum(all(each.isascii() or each.lower() in letters or each in letters for each in part) for part in parts)
        for letters in _LATIN[page]
    ) / len(parts)


def _cyrillic_fit(words: list[bytes], page: str) -> tuple[float, float]:
    """Return the share of plausible words and of frequent letters. In the wrong code page, words end with capitals."""
    parts = _decoded_words(words, page)
    letters = "".join(parts).lower()
    frequent = sum(letter in _FREQUENT for letter in letters) / len(letters) if letters else 0.0
    if frequent < _FREQUENT_SHARE:
        return 0.0, frequent
    possible = sum(
        all("Ѐ" <= letter <= "ӿ" for letter in part) and (part[1:].islower() or part.isupper() or len(part) == 1)
        for part in parts
    )
    return possible / len(parts), frequent
