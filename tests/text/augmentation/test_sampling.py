"""Phrase-swap augmentation: a sample is the example with exchangeable phrases permuted."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from memhop.data import generate, to_examples
from memhop.example import Example
from memhop.recipe import Recipe
from memhop.text.augmentation import sampling
from memhop.text.augmentation.phrases import Phrase
from memhop.text.augmentation.sampling import PhraseSwap, PhraseText
from memhop.text.encoding import NO_ANSWER, Encoder, Sizes, training_vocabulary
from memhop.text.reading import SplitSentences
from memhop.tokenizer import answer_parts

ONE = list(to_examples(generate(1, questions=400, seed=1)))
TWO = list(to_examples(generate(2, questions=300, seed=2)))
SHAPES = ("red square", "red ball", "pink disc", "cone")


def shapes(count: int = 300) -> list[Example]:
    """Phrases of several words, and answers that stand in no statement."""
    random = np.random.default_rng(5)
    examples = []
    for _ in range(count):
        one, other, asked = (SHAPES[i] for i in random.permutation(4)[:3])
        story = (f"The {one} is in the {other}.",)
        which = one if random.random() < 0.5 else asked
        examples.append(Example(story, f"Is the {which} inside?", "yes" if which == one else "no"))
    return examples


def phrase_text(examples: list[Example]) -> PhraseText:
    return PhraseText(examples, SplitSentences())


class Swapped:
    """Phrase-swap augmentation, with its rows decoded to phrases."""

    def __init__(self, examples: list[Example], sources: list[int], **recipe: Any) -> None:
        settings = Recipe.paper(**recipe)
        sizes = Sizes.of(examples, settings)
        self.encoder = Encoder(training_vocabulary(examples), settings, sizes)
        self.examples, self.sources = examples, sources
        self.phrase_swap = PhraseSwap(examples, sources, self.encoder)

    def sentence(self, row: int) -> tuple[Phrase, ...]:
        return self.phrase_swap._variants.sentences[row]

    def sample(self, rows: list[int], seed: int = 0) -> list[tuple[Any, Any, Any]]:
        """Statements, question and answer of each, in phrases."""
        sampled = self.phrase_swap.sample(np.array(rows), np.random.default_rng(seed))
        decoded = []
        for row, slots, question, answer in zip(rows, *(p.tolist() for p in sampled), strict=True):
            length = int(self.phrase_swap.encoded.lengths[row])
            assert not any(slots[length:])
            word = self.encoder.vocabulary.word(answer)
            story = [self.sentence(slot) for slot in slots[:length]]
            decoded.append((story, self.sentence(question), answer_parts(word)))
        return decoded


def mixed() -> Swapped:
    return Swapped([*ONE, *TWO, *shapes()], [1] * 400 + [2] * 300 + [17] * 300)


def test_a_draw_is_the_example_under_one_permutation() -> None:
    """Phrase by phrase: nothing moves out of its group, and the same goes to the same."""
    swapped = mixed()
    texts = [phrase_text(ONE), phrase_text(TWO), phrase_text(shapes())]
    phrased = [example for text in texts for example in text.examples]
    groups = [text.orbits for text in texts for _ in text.examples]
    rows = list(range(0, 1000, 3))
    changed = 0
    for row, (story, question, answer) in zip(rows, swapped.sample(rows), strict=True):
        before = phrased[row]
        most = swapped.encoder.sizes.memory_slots
        pairs: set[tuple[Phrase, Phrase]] = set()
        said = [*before[0][-most:], before[1], before[2]]
        for one, other in zip(said, [*story, question, answer], strict=True):
            pairs |= set(zip(one, other, strict=True))
        moved = dict(pairs)
        assert len(moved) == len(pairs) == len(set(moved.values()))
        for old, new in moved.items():
            assert old == new or any({old, new} <= set(group) for group in groups[row])
        changed += any(old != new for old, new in pairs)
    assert changed > 0.8 * len(rows)  # one shape or two may well stay


def test_phrases_of_several_words_are_permuted() -> None:
    [group] = phrase_text(shapes()).orbits
    assert sorted(group) == sorted(("the", *shape.split()) for shape in SHAPES)


def test_every_phrase_of_a_group_is_as_likely_as_any_other() -> None:
    swapped = Swapped(ONE, [0] * len(ONE))
    answers = Counter(answer for *_, (answer,) in swapped.sample([7] * 6000))
    names = Counter(story[0][0] for story, *_ in swapped.sample([7] * 6000, seed=1))
    assert len(answers) == 6
    assert len(names) == 4
    for counts in (answers, names):  # a binomial's six standard deviations
        share = 1 / len(counts)
        limit = 6 * (share * (1 - share) / 6000) ** 0.5
        assert all(abs(count / 6000 - share) < limit for count in counts.values())


def test_the_bank_embeds_examples_as_the_encoder_does() -> None:
    swapped = mixed()
    plain, ours = swapped.encoder.encode(swapped.examples), swapped.phrase_swap.encoded
    for name in ("lengths", "answers"):
        assert torch.equal(getattr(plain, name), getattr(ours, name))
    rows = len(swapped.encoder.vocabulary) + swapped.encoder.sizes.memory_slots
    tables = torch.randn(1, rows, 20, dtype=torch.float64)
    tables[:, 0] = 0
    for name in ("slots", "question"):
        theirs, mine = (e.sentences.embed(tables)[0][getattr(e, name)] for e in (plain, ours))
        torch.testing.assert_close(mine, theirs)


def test_the_same_generator_gives_the_same_draw() -> None:
    swapped, rows = mixed(), list(range(900, 1000))
    assert swapped.sample(rows, 3) == swapped.sample(rows, 3) != swapped.sample(rows, 4)
    again = swapped.sample(rows[:50], 3)  # the first of more examples are not the first alone
    assert len(again) == 50


def test_a_text_without_groups_stays_unchanged() -> None:
    examples = [*ONE[:10], *TWO[:10]]
    swapped = Swapped(examples, [0] * 10 + [1] * 10)
    drawn = swapped.phrase_swap.sample(np.arange(20), np.random.default_rng(0))
    encoded = swapped.phrase_swap.encoded
    for new, old in zip(drawn, (encoded.slots, encoded.question, encoded.answers), strict=True):
        assert torch.equal(new, old)


def test_an_answer_that_training_never_showed_is_not_made() -> None:
    """``attic`` is asked for with one name only: a list with another is no known answer."""
    random = np.random.default_rng(2)
    names, things = ("ann", "ben", "cleo"), ("ball", "bat", "kite")
    examples = []
    for _ in range(600):
        name, other = (names[i] for i in random.permutation(3)[:2])
        first, second = (things[i] for i in random.permutation(3)[:2])
        story = (f"{name} took the {first}.", f"{name} took the {second}.", f"{other} left.")
        answer = f"{first},{second}" if {first, second} != {"bat", "kite"} else "kite,bat"
        examples.append(Example(story, f"What has {name}?", answer))
    swapped = Swapped(examples, [0] * 600)
    assert {len(group) for group in phrase_text(examples).orbits} >= {3}
    unknown = swapped.phrase_swap._answer_ids == NO_ANSWER
    drawn = swapped.phrase_swap.sample(np.arange(600), np.random.default_rng(0))
    assert (drawn[2] != NO_ANSWER).all()
    assert (swapped.phrase_swap.encoded.answers != NO_ANSWER).all()
    assert unknown.sum() <= 2


def test_too_many_variants_drop_the_largest_group(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ONE[:200]
    sentences = len({s.lower() for e in few for s in (*e.story, e.question)})
    added = len(Swapped(few, [0] * len(few)).phrase_swap._variants.sentences) - 1 - sentences
    assert added > 0
    monkeypatch.setattr(sampling, "_MAX_ADDED", added)
    whole = phrase_text(few).orbits
    monkeypatch.setattr(sampling, "_MAX_ADDED", added - 1)
    assert len(phrase_text(few).orbits) < len(whole)
    assert max(whole, key=len) not in phrase_text(few).orbits
    assert len(Swapped(few, [0] * len(few)).phrase_swap._variants.sentences) < 1 + sentences + added
    monkeypatch.setattr(sampling, "_MAX_ADDED", -1)
    assert phrase_text(few).orbits == []


def test_inactive_classes_stay_unchanged() -> None:
    swapped = mixed()
    number = {str(each): i for i, each in enumerate(swapped.phrase_swap.classes)}
    assert len(number) == len(swapped.phrase_swap.classes) > 3
    rows, random = np.arange(0, 1000, 7), np.random.default_rng
    plain = swapped.phrase_swap.encoded
    none = swapped.phrase_swap.sample(rows, random(0), active=[False] * len(number))
    for new, old in zip(none, (plain.slots, plain.question, plain.answers), strict=True):
        assert torch.equal(new, old[rows])
    for only in range(len(number)):
        active = [index == only for index in range(len(number))]
        slots, question, _ = swapped.phrase_swap.sample(rows, random(1), active=active)
        source, each = swapped.phrase_swap.classes[only]
        is_changed = (
            (slots != plain.slots[rows]).any(1) | (question != plain.question[rows])
        ).numpy()
        assert is_changed.any()
        assert {swapped.sources[row] for row in rows[is_changed]} == {source}
        old_phrases, new_phrases = (
            {p for row in table.flatten().tolist() for p in swapped.sentence(row)}
            for table in (plain.slots[rows], slots)
        )
        assert old_phrases ^ new_phrases <= set(each.phrases)


def test_held_out_examples_are_permuted_with_the_classes_of_the_training_part() -> None:
    training = Swapped([*ONE[:300], *shapes()], [1] * 300 + [17] * 300)
    classes: dict[int, list[Any]] = {1: [], 17: []}
    for source, each in training.phrase_swap.classes:
        classes[source].append(each)
    held_out = ONE[300:]
    swap = PhraseSwap(held_out, [1] * len(held_out), training.encoder, classes=classes)
    assert [each for _, each in swap.classes] == classes[1]
    plain = training.encoder.encode(held_out)
    assert torch.equal(swap.encoded.answers, plain.answers)
    _, _, answers = swap.sample(np.arange(len(held_out)), np.random.default_rng(0))
    assert (answers != swap.encoded.answers).float().mean() > 0.5
