# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

"""Questions reduced to their content words."""

from __future__ import annotations

import pytest

from resrank_training.keywords import keywords


@pytest.mark.parametrize(
    ("query", "reduced"),
    [
        ("how do I parse a date?", "parse date"),
        ("What are the symptoms of Adult Acute Lymphoblastic Leukemia?", "symptoms Adult Acute Lymphoblastic Leukemia"),
        ("who discovered penicillin?", "discovered penicillin"),
        ("Where is it?", "Where is it?"),  # nothing remains
        ("Why Paris?", "Why Paris?"),  # one word remains
        ("", ""),
        ("What does the WHO say about IT security?", "WHO say IT security"),
        ("WHAT IS THE CAPITAL OF FRANCE?", "CAPITAL FRANCE"),
        ("C++ and C# vs. E-1234, 3.5", "C++ C# vs E-1234 3.5"),
        ("what's France's “biggest” city…", "France biggest city"),
        ("what\N{RIGHT SINGLE QUOTATION MARK}s (not) working — today", "not working today"),
        ("Wie heißt die Hauptstadt?", "Wie heißt die Hauptstadt"),
        ("भारत की राजधानी", "भारत की राजधानी"),
        ("+ - * / what", "+ - * / what"),
    ],
)
def test_keywords_are_content_words_in_order(query, reduced):
    assert keywords(query) == reduced
