"""Find the classes of exchangeable phrases of a text.

The search starts from each swap of two phrases of statements that are as frequent as each other.
While a second swap has a significant contrast with it (`memhop.text.augmentation.symmetry_test`),
the most significant one joins it: (kitchen's garden's), the forms in statements, becomes
(kitchen's garden's)(kitchen garden); (left above) becomes (left above)(right below). A swap is
accepted if none joins it and it passes the test. There are up to some thousand contrasts of a swap,
those of the 30 cells of the largest z; their limit is that of the cells.

Accepted swaps generate the permutations of a class. Swaps of many pairs come first, then those of
low z; one that shares phrases with earlier ones must give with them only products that pass too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np

from memhop.text.augmentation.classes import PhraseClass, Swap
from memhop.text.augmentation.features import TokenizedExample
from memhop.text.augmentation.phrases import Phrase
from memhop.text.augmentation.symmetry_test import (
    MAX_Z,
    Booleans,
    Cells,
    FeatureCounts,
    Floats,
    Image,
)

MAX_EXAMPLES = 1000  # further examples are not counted
MAX_CONTRAST = 5.0
_MAX_Z_OF_PRODUCT, _MAX_CONTRAST_OF_PRODUCT = 5.2, 6.0
_MAX_PAIRS = 8  # of a joint swap
_MAX_SUSPECTS = 30  # cells of a swap, those of the largest z, whose contrasts are tested
_MAX_PRODUCTS = 60  # that are tested of a swap and those accepted before
_AT_ONCE = 64  # cells

Pair = tuple[Phrase, Phrase]
SwapKey = frozenset[frozenset[Phrase]]


class Verdict(NamedTuple):
    """The result of the test of a swap.

    Attributes:
        z: the largest |z|, or one above the limit that no other pair can lower.
        contrast: the largest contrast.
        partner: the pair with this contrast.
    """

    z: float
    contrast: float = 0.0
    partner: Pair | None = None


def exchangeable_classes(examples: Sequence[TokenizedExample]) -> list[PhraseClass]:
    """Return disjoint classes of exchangeable phrases, in the order of the text.

    The result depends on the order of the text, never on the letters of a word. Each swap has at
    least one pair of phrases of statements.

    Args:
        examples: statements, question and parts of the answer in phrases, in the order of the
            text. The first ``MAX_EXAMPLES`` are used.
    """
    if not examples:
        return []
    search = _SwapSearch(examples[:MAX_EXAMPLES])
    order = search.counts.number
    classes = [PhraseClass(_ordered(swaps, order)) for swaps in _connected(search.generators())]
    return sorted(classes, key=lambda each: order[each.phrases[0]])


class _SwapSearch:
    """Tests swaps, and adds partners to them.

    Attributes:
        pairs: the pairs whose single features are as frequent as each other, which may be swapped,
            alone or with others.
    """

    def __init__(self, examples: Sequence[TokenizedExample]) -> None:
        self.counts = FeatureCounts(examples)
        self._in_statements = {p for statements, *_ in examples for s in statements for p in s}
        self._verdicts: dict[SwapKey, Verdict] = {}
        self.pairs: list[Pair] = []
        images: list[Image] = []
        for pair in combinations(self.counts.phrases, 2):
            image = self.counts.image((pair,))
            z = self._deviation(self.counts.cells_of_one_phrase(image), image, MAX_Z)
            if z.max(initial=0) <= MAX_Z:
                self.pairs.append(pair)
                images.append(image)
        self._conditions, self._features = (
            np.stack(part) if images else np.zeros((0, 0), dtype=np.int64)
            for part in (list(zip(*images, strict=True)) or [(), ()])
        )
        self._has = np.zeros((len(self.counts.phrases), len(self.pairs)), dtype=bool)
        for column, pair in enumerate(self.pairs):
            self._has[[self.counts.number[phrase] for phrase in pair], column] = True

    def generators(self) -> list[Swap]:
        """Return the accepted swaps, without those that are part of a joint one."""
        accepted: dict[SwapKey, Swap] = {}
        joined: set[frozenset[Phrase]] = set()
        for pair in self.pairs:
            if frozenset(pair) in joined or not self._in_statements.issuperset(pair):
                continue
            if swap := self._grown(pair):
                accepted.setdefault(_key(swap), swap)
                joined |= _key(swap) if len(swap) > 1 else set()
        swaps = [s for s in accepted.values() if len(s) > 1 or frozenset(s[0]) not in joined]
        return list(chain.from_iterable(map(self._consistent, _connected(swaps))))

    def _consistent(self, swaps: list[Swap]) -> list[Swap]:
        """Return swaps that share phrases without those that contradict better ones.

        Of three orders, the one with the largest sum of margins to the limit is taken.
        """
        margin = {swap: MAX_CONTRAST - max(self.verdict(swap)[:2]) for swap in swaps}
        orders: tuple[Callable[[Swap], tuple[float, ...]], ...] = (
            lambda swap: (-len(swap), -margin[swap]),
            lambda swap: (-margin[swap],),
            lambda swap: (self._num_conflicts(swap, swaps), -margin[swap]),
        )
        best: list[Swap] = []
        for order in orders:
            known: dict[SwapKey, Swap] = {}
            kept = [one for one in sorted(swaps, key=order) if self._is_consistent(one, known)]
            if sum(map(margin.__getitem__, kept)) > sum(map(margin.__getitem__, best)):
                best = kept
            if len(best) == len(swaps):
                break
        return best

    def _grown(self, pair: Pair) -> Swap | None:
        """Return a pair with its partners if they pass together."""
        swap: Swap = (pair,)
        while len(swap) <= _MAX_PAIRS:
            verdict = self.verdict(swap)
            if verdict.partner is None or verdict.contrast <= MAX_CONTRAST:
                return swap if verdict.z <= MAX_Z else None
            swap = (*swap, verdict.partner)
        return None

    def _num_conflicts(self, swap: Swap, others: Sequence[Swap]) -> int:
        """Return the number of other swaps with which a swap has a product that fails."""
        return sum(
            not all(self._allows(each, swap, other, ()) for each in _products(swap, other))
            for other in others
        )

    def _is_consistent(self, swap: Swap, known: dict[SwapKey, Swap]) -> bool:
        """Return whether the products with known swaps pass, and if so add them to those."""
        if _key(swap) in known:
            return True
        added, tested = {_key(swap): swap}, [swap]
        while tested and len(added) < _MAX_PRODUCTS:
            one = tested.pop()
            for other in [*known.values(), *added.values()]:
                for product in _products(one, other):
                    key = _key(product)
                    if key not in known and key not in added:
                        if not self._allows(product, one, other, known):
                            return False
                        added[key] = product
                        tested.append(product)
        known |= added
        return True

    def _allows(self, product: Swap, one: Swap, other: Swap, known: Iterable[SwapKey]) -> bool:
        """Return whether the test of a product of accepted swaps does not contradict them.

        A single swap is also a product of others like it, which have no partner. So its contrast
        may be larger, if it is no part of a known joint swap.
        """
        verdict, key = self.verdict(product), _key(product)
        is_single = len(one) == len(other) == 1 and not any(key < joint for joint in known)
        limit = _MAX_CONTRAST_OF_PRODUCT if is_single else MAX_CONTRAST
        return verdict.z <= _MAX_Z_OF_PRODUCT and verdict.contrast <= limit

    def verdict(self, swap: Swap) -> Verdict:
        """Return the result of the test of a swap."""
        key = _key(swap)
        if key not in self._verdicts:
            self._verdicts[key] = self._tested(swap)
        return self._verdicts[key]

    def _tested(self, swap: Swap) -> Verdict:
        counts = self.counts
        image = counts.image(swap)
        cells = counts.cells(image, MAX_Z / np.sqrt(2))  # a contrast is the difference of two
        first = cells.at(slice(_AT_ONCE))
        z = self._deviation(first, image, 0)
        is_in = np.zeros(len(counts.phrases), dtype=bool)
        is_in[[counts.number[phrase] for pair in swap for phrase in pair]] = True
        others = counts.phrases_of(first) & ~is_in
        largest = float(z.max(initial=0))
        if (z[~others.any(axis=1)] > MAX_Z).any():
            return Verdict(largest)  # no partner changes these cells
        contrast, partner = self._contrast(first, z, others, image, is_in)
        if contrast <= MAX_CONTRAST:
            start = _AT_ONCE
            while largest <= MAX_Z and start < len(cells.features):
                rest = self._deviation(cells.at(slice(start, start + _AT_ONCE)), image, MAX_Z)
                largest = max(largest, float(rest.max()))
                start += _AT_ONCE
        return Verdict(largest, contrast, partner)

    def _contrast(
        self, cells: Cells, z: Floats, others: Booleans, image: Image, is_in: Booleans
    ) -> tuple[float, Pair | None]:
        """Return the largest contrast of suspect cells, 0 if small, and the pair that gives it.

        Args:
            cells: C cells.
            z: [C] their |z|.
            others: [C, P] phrases of a cell that are not in the swap.
            image: of the swap.
            is_in: [P] phrases in the swap.
        """
        suspects = np.argsort(-z, kind="stable")[:_MAX_SUSPECTS]
        cell, pair = np.nonzero((others[suspects] @ self._has) & ~(is_in @ self._has))
        one = cells.at(suspects[cell])
        other = Cells(self._conditions[pair, one.conditions], self._features[pair, one.features])
        signed = [(1, one), (-1, one.under(image)), (-1, other), (1, other.under(image))]
        likely = np.argsort(-self.counts.estimate(signed), kind="stable")[:_AT_ONCE]
        signed = [(sign, cells.at(likely)) for sign, cells in signed]
        contrast = self.counts.z(signed, MAX_Z)
        if not contrast.any():
            return 0.0, None
        best = int(contrast.argmax())
        return float(contrast[best]), self.pairs[pair[likely[best]]]

    def _deviation(self, cells: Cells, image: Image, least: float) -> Floats:
        return self.counts.z([(1, cells), (-1, cells.under(image))], least)


def _key(swap: Swap) -> SwapKey:
    return frozenset(map(frozenset, swap))


def _products(one: Swap, other: Swap) -> Iterator[Swap]:
    """Yield the swaps among the products of two swaps that share phrases.

    >>> a, b, c = ("a",), ("b",), ("c",)
    >>> list(_products(((a, b),), ((b, c),)))
    [((('a',), ('c',)),), ((('a',), ('c',)),)]
    """
    first, second = (dict(chain(swap, (pair[::-1] for pair in swap))) for swap in (one, other))
    if first.keys().isdisjoint(second):
        return
    changed = tuple((second.get(a, a), second.get(b, b)) for a, b in one)
    if _key(changed) != _key(one):
        yield changed
        yield tuple((first.get(a, a), first.get(b, b)) for a, b in other)
    else:  # they commute
        product = {p: first.get(second.get(p, p), second.get(p, p)) for p in (first | second)}
        pairs = {frozenset(pair): pair for pair in product.items() if pair[0] != pair[1]}
        if pairs:
            yield tuple(pairs.values())


def _connected(swaps: Iterable[Swap]) -> list[list[Swap]]:
    """Return groups of swaps that share phrases."""
    groups: list[tuple[set[Phrase], list[Swap]]] = []
    for swap in swaps:
        phrases = set(chain.from_iterable(swap))
        shared = [group for group in groups if not phrases.isdisjoint(group[0])]
        groups = [group for group in groups if phrases.isdisjoint(group[0])]
        groups.append(
            (
                phrases.union(*(one for one, _ in shared)),
                [*chain.from_iterable(each for _, each in shared), swap],
            )
        )
    return [each for _, each in groups]


def _ordered(swaps: Iterable[Swap], order: Mapping[Phrase, int]) -> tuple[Swap, ...]:
    """Sort swaps, the pairs of each, and the phrases of each pair by the order of the text."""

    def sorted_pair(pair: Pair) -> Pair:
        return pair if order[pair[0]] < order[pair[1]] else pair[::-1]

    def numbers(swap: Swap) -> list[int]:
        return [order[phrase] for pair in swap for phrase in pair]

    by_pair = [
        tuple(sorted(map(sorted_pair, swap), key=lambda pair: order[pair[0]])) for swap in swaps
    ]
    return tuple(sorted(by_pair, key=numbers))
