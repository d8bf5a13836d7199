"""What novelty says of texts that are changed, in other languages, nearly empty, or about something else.

    python -m benchmarks.evaluation.novelty_kinds --clinc150 FOLDER/oos_test.tsv --goemotions FOLDER/test.tsv

The classifier is the embedded one; its scope is two thirds of the embedded reviews, and the last third is measured: as
it is, and changed. The level is 5%. For comparison: the share of each kind whose confidence is below the threshold that
refuses 5% of the unchanged reviews.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bayesian_text_classification import load, load_labeled_texts

from benchmarks.common import read_texts
from benchmarks.evaluation.novelty import alarms
from benchmarks.results import table, write_section

LEVEL, MOST = 0.05, 1_000
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
GERMAN = (
    "Der Film war viel zu lang.",
    "Das Essen kam kalt auf den Tisch.",
    "Ein wunderbarer Abend mit guten Schauspielern.",
    "Der Akku hält leider nur einen Tag.",
    "Wir kommen gerne wieder.",
    "Die Bedienung war unfreundlich.",
    "Ich habe selten so gelacht.",
    "Die Qualität entspricht dem Preis nicht.",
    "Das Ende hat mich enttäuscht.",
    "Schnelle Lieferung, alles bestens.",
    "Die Handlung ergibt keinen Sinn.",
    "Das beste Restaurant der Stadt.",
)
FRENCH = (
    "Le film était beaucoup trop long.",
    "Le repas est arrivé froid.",
    "Une soirée merveilleuse avec de bons acteurs.",
    "La batterie ne tient qu'une journée.",
    "Nous reviendrons avec plaisir.",
    "Le service était désagréable.",
    "J'ai rarement autant ri.",
    "La qualité ne vaut pas le prix.",
    "La fin m'a déçu.",
    "Livraison rapide, tout est parfait.",
    "L'histoire n'a aucun sens.",
    "Le meilleur restaurant de la ville.",
)
CHINESE = (
    "这部电影太长了。",
    "饭菜端上来已经凉了。",
    "演员很好,晚上很愉快。",
    "电池只能用一天。",
    "我们还会再来。",
    "服务态度不好。",
    "很少笑得这么开心。",
    "质量不值这个价钱。",
    "结局让我失望。",
    "送货很快,一切都好。",
    "故事没有意义。",
    "城里最好的餐厅。",
)
CODE = (
    "SELECT * FROM users WHERE id = 1",
    "for (int i = 0; i < n; i++) { sum += a[i]; }",
    '{"status": "ok", "items": []}',
    "import numpy as np",
    "GET /index.html HTTP/1.1",
    "<div class='row'><p>Hello</p></div>",
    "rm -rf build && make all",
    "def main() -> None: pass",
    "ERROR 2024-01-01 12:00:00 connection refused",
    "https://example.com/a?b=c&d=e",
    "0x7ffe 0x0010 0xdead 0xbeef",
    "if x is None: raise ValueError('x')",
)
NEARLY_EMPTY = (
    "",
    " ",
    ".",
    "!!!",
    "?",
    "ok",
    "a",
    "the",
    "1",
    "42",
    "...",
    "-",
    ":)",
    "x",
    "no",
    "yes",
    "n/a",
    "null",
)
NONSENSE = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit",
    "asdf qwer zxcv",
    "blah blah blah blah",
    "the the the the the the",
    "colorless green ideas sleep furiously",
    "foo bar baz qux",
    "aaaaaaaaaaaaaaaaaaaa",
    "1 2 3 4 5 6 7 8 9 10",
    "qwertyuiop asdfghjkl",
    "xyzzy plugh frobnicate",
    "twas brillig and the slithy toves",
    "jabber jabber jabber jabber",
)


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clinc150", type=Path, required=True)
    parser.add_argument("--goemotions", type=Path, required=True)
    args = parser.parse_args()
    classifier, random = load(num_samples=0), np.random.default_rng(0)
    reviews = sorted(set(load_labeled_texts("reviews", classifier.model.config.id2label).texts))
    reviews = [reviews[i] for i in random.permutation(len(reviews))]
    third = len(reviews) // 3
    classifier.learn_scope(reviews[:third], held_out=reviews[third : 2 * third])
    own = reviews[2 * third :]
    elsewhere = {
        name: [texts[i] for i in random.permutation(len(texts))[:MOST]]
        for name, texts in (
            ("questions to an assistant (CLINC150)", read_texts(args.clinc150)),
            ("comments about anything (GoEmotions)", read_texts(args.goemotions)),
        )
    }

    def changed(change: Callable[[str], str]) -> list[str]:
        return [change(text) for text in own]

    kinds = {
        "reviews, unchanged": own,
        "in capital letters": changed(str.upper),
        "words in random order": changed(lambda text: " ".join(random.permutation(text.split()))),
        "one letter in ten mistyped": changed(lambda text: mistyped(text, 0.1, random)),
        "one letter in three mistyped": changed(lambda text: mistyped(text, 0.3, random)),
        "only the first three words": changed(lambda text: " ".join(text.split()[:3])),
        "only the first word": changed(lambda text: text.split()[0]),
        "said twice": changed(lambda text: f"{text} {text}"),
        **elsewhere,
        "reviews in German": GERMAN,
        "reviews in French": FRENCH,
        "reviews in Chinese": CHINESE,
        "code, addresses, logs": CODE,
        "nearly empty texts": NEARLY_EMPTY,
        "nonsense": NONSENSE,
    }
    limit = np.quantile(classifier.predict_proba(own).max(1), LEVEL)
    rows = []
    for name, texts in kinds.items():
        p = classifier.scope.p_values(classifier.novelty(list(texts)))
        unsure = (classifier.predict_proba(list(texts)).max(1) <= limit).mean()
        rows.append([name, f"{len(texts):,}", f"{(p <= LEVEL).mean():.0%}", f"{np.median(p):.2f}", f"{unsure:.0%}"])
    body = table(["texts", "number", "refused by novelty at 5%", "median p-value", "refused by confidence"], rows)
    command = "python -m benchmarks.evaluation.novelty_kinds --clinc150 FILE --goemotions FILE"
    body += "\n\n" + alarms(classifier.scope, classifier.novelty(own))
    write_section("What is new to the embedded classifier", command, body)


def mistyped(text: str, rate: float, random: np.random.Generator) -> str:
    """The text with letters replaced by their neighbors on a keyboard, at this rate."""

    def key(letter: str) -> str:
        row = next((keys for keys in KEYS if letter in keys), "")
        place = row.find(letter)
        return letter if not row or random.random() >= rate else row[place - 1 if place else 1]

    return "".join(key(letter) for letter in text.lower())


if __name__ == "__main__":
    main()
