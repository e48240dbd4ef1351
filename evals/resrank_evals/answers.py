# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""
Short answers beside what people answered, with the arithmetic of SQuAD's official evaluation script.

`exact_match` and `token_f1` give what the script of version 2.0 gives for one question. Version 1.1 differs in one
case: F1 of two texts that are both empty after normalisation is 0 there, 1 here. Sources: Rajpurkar et al., arXiv
1606.05250 (F1 over bags of tokens without articles and punctuation, best of several gold answers) and arXiv 1806.03822
(questions without an answer). `answer_in_context` is ours: whether a passage holds an answer at all.

The normalisation was made for English, and is kept as it is, so that figures stay comparable:

* Only ASCII punctuation goes, and without a trace: `3.5` is `35`, `U.S.` is `us`, `well-known` is `wellknown`. German,
  Chinese and Arabic quotation marks, long dashes, full stops and commas stay, as part of their token.
* Only a, an and the go, in any language: German loses its preposition `an`, French its verb `a`; der, la or ال stay.
* Case is lowered, nothing else is unified: `ß` is not `ss`, é in one character is not é in two, and full-width or
  Arabic digits are not ASCII digits.
* Tokens are what white space separates, so a Chinese, Japanese or Thai answer is mostly one token, and its F1 is its
  exact match.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Thai, Lao, Burmese, Khmer, kana and Chinese characters: words are not separated.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


def normalize_answer(text: str) -> str:
    """
    Bring a text into the form that is compared: lower case, without punctuation and articles, single spaces.

    :param text: any text.
    :returns: its tokens with one space between them; empty when nothing is left.
    """
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """
    Whether a prediction is one of the gold answers after normalisation.

    :param prediction: the answer; empty says that there is none.
    :param golds: what is right. Those that normalise to nothing do not count; where none is left, the question has no
        answer, and only an empty prediction is right.
    :returns: 1.0 or 0.0.
    :raises TypeError: when `golds` is one string.
    """
    predicted = normalize_answer(prediction)
    return float(any(predicted == gold for gold in _normalized(golds)))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """
    How much a prediction overlaps with the gold answer that it is closest to.

    F1 = 2PR / (P + R) over bags of tokens: each token counts as often as it is in both. Where prediction or gold is
    empty after normalisation, 1.0 when both are, else 0.0.

    :param prediction: the answer; empty says that there is none.
    :param golds: as for `exact_match`.
    :returns: the largest F1, 0.0 to 1.0.
    :raises TypeError: when `golds` is one string.
    """
    predicted = normalize_answer(prediction).split()
    return max(_f1(predicted, gold.split()) for gold in _normalized(golds))


def answer_in_context(context: str, golds: Sequence[str]) -> bool:
    """
    Whether a gold answer stands in a text, both normalised, as whole words.

    A word ends where a letter, digit or combining mark meets something else, such as the punctuation that normalisation
    leaves. Where writing does not separate words, every character may be an end.

    :param context: a passage, or several joined by white space.
    :param golds: what is right; none that normalises to something is never found.
    :returns: whether any of them is there.
    :raises TypeError: when `golds` is one string.
    """
    text = normalize_answer(context)
    return any(_stands_in(text, gold) for gold in _normalized(golds) if gold)


def _normalized(golds: Sequence[str]) -> list[str]:
    if isinstance(golds, str):
        msg = f"golds must be a sequence of answers, got one string: use [{golds!r:.40}]"
        raise TypeError(msg)
    return [gold for gold in map(normalize_answer, golds) if gold] or [""]


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    same = (Counter(predicted) & Counter(gold)).total()
    if same == 0:
        return 0.0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def _stands_in(text: str, answer: str) -> bool:
    start = text.find(answer)
    while start >= 0:
        if _is_end(text, start) and _is_end(text, start + len(answer)):
            return True
        start = text.find(answer, start + 1)
    return False


def _is_end(text: str, position: int) -> bool:
    around = text[max(0, position - 1) : position + 1]
    return position in (0, len(text)) or not all(map(_in_word, around)) or _UNSPACED.search(around) is not None


def _in_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")
