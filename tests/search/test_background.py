from collections import Counter

from vclip.search.background import SENTENCES


def test_256_different_plain_sentences():
    assert len(SENTENCES) == len(set(SENTENCES)) == 256
    assert all(sentence == sentence.strip().lower() and 3 <= len(sentence.split()) <= 4 for sentence in SENTENCES)
    assert SENTENCES[0] == "chop the carrots" and SENTENCES[-1] == "wrap the present"
    assert Counter(s.split()[0] for s in SENTENCES).most_common(1)[0][1] <= 8
