"""Invent names for generated facts: people, films, books, cities, countries, languages, companies.

A name is a number written with word lists as digits, so that different numbers give different
names. No word of a list is a name by itself, and no name contains another one.
"""

from collections.abc import Iterator
from math import prod

from memhop.rng import Rng


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GENRES = _words(
    "drama comedy thriller western horror mystery romance adventure fantasy musical "
    "documentary satire melodrama farce noir biopic"
)
YEARS = tuple(str(year) for year in range(1950, 2025))

_FIRST = _words(
    "Ada Agnes Alba Alma Amos Anders Anton Arlo Astrid Axel Bela Benno Berta Bruno "
    "Carla Cecil Celia Clara Clemens Cora Dario Delia Edda Edgar Elias Elsa Emil "
    "Enzo Erik Esther Etta Felix Flora Franka Gerda Gideon Greta Gustav Hanna "
    "Hector Heidi Helga Hugo Ida Igor Ilse Ingrid Irma Isidor Ivo Jasper Joachim "
    "Jonas Judith Julius Justus Kaspar Katja Klara Konrad Lena Leonie Lorenz Lotte "
    "Lucia Ludwig Magda Marius Martha Matilda Maud Milan Mina Mirko Moritz Nadia "
    "Nestor Nina Nora Odette Olga Orson Oskar Otto Paula Petra Phoebe Quentin Ralf "
    "Regina Renata Roland Rosa Rufus Sabina Selma Sigrid Silas Simon Sonja Stella "
    "Sven Tamara Tessa Thea Tilda Tobias Ulla Ursula Valentin Vera Viktor Viola "
    "Walter Wanda Wilma Xaver Yvonne Zelda Zora"
)
_SURNAMES = (
    _words(
        "Abel Alder Arnd Bark Bell Berg Blom Bor Brand Brink Carr Dahl Darr Ebb Eck "
        "Eber Falk Fenn Fors Gard Gess Grim Hag Hall Hart Heck Holl Horn Jarr Jess Kall "
        "Kess Kirch Korn Lamm Lind Loh Lund Mack Mell Mor Nagel Ness Nord Oster Pell "
        "Penn Quist Rad Rask Rehn Ritt Roth Sall Sand Schell Sell Sorr Stein Stoll Tam "
        "Tell Thorn Tor Ull Vall Voss Wald Warr Wess Wick Winn Yarr Zell Zorn"
    ),
    _words(
        "aker alin ander anger auer beck berger blad bom dell dorf elius emann enko "
        "eroth essen ewski felt feldt gren hardt inger kamp kvist lein lov man mark "
        "mayr meier nagy off olin ovic quint rup sen son stad stedt strand strom vik "
        "wall wright"
    ),
)
_ADJECTIVES = _words(
    "Amber Ancient Bitter Blind Borrowed Brass Bright Broken Burning Careless "
    "Clever Cold Copper Crimson Crooked Crystal Dark Daring Deep Distant Dusty "
    "Early Eastern Empty Endless Faded Faithful Fallen Final First Fragile Frozen "
    "Gentle Gilded Glass Golden Green Grey Hidden Hollow Honest Hungry Icy Idle "
    "Innocent Invisible Iron Ivory Last Late Lazy Little Lonely Long Lost Loud "
    "Lucky Marble Midnight Narrow Nameless Northern Old Open Pale Paper Patient "
    "Perfect Purple Quiet Rapid Reckless Red Restless Rising Royal Rusty Sacred "
    "Salted Scarlet Second Secret Seventh Shallow Silent Silver Simple Sleeping "
    "Slow Southern Stolen Stormy Strange Sudden Tall Tender Thirsty Torn Uneasy "
    "Velvet Violet Wandering White Wicked Wild Winter Wooden Wounded Yellow"
)
_NOUNS = _words(
    "Anchor Anvil Apple Arrow Balcony Barn Bell Blade Boat Bridge Bucket Cabin "
    "Candle Canyon Carousel Castle Cave Chapel Circle Clock Coat Compass Corner "
    "Cradle Crown Dancer Desert Diamond Door Dragon Eagle Echo Engine Falcon "
    "Feather Ferry Field Fire Fisherman Flag Flute Forest Fountain Fox Garden Gate "
    "Ghost Giant Glacier Guard Guest Hammer Harbour Hawk Heart Hill Horse Hour "
    "House Island Journey Judge Key Kite Ladder Lake Lamp Lantern Letter Lighthouse "
    "Lion Machine Market Mask Meadow Mirror Monk Moon Mountain Needle Oak Ocean "
    "Orchard Orphan Palace Parade Passenger Path Pearl Piano Pilot Pirate Planet "
    "Pond Porter Prince Promise Queen Rain Raven Ribbon River Road Rope Rose Sailor "
    "Scarecrow Shadow Shepherd Shore Sister Soldier Sparrow Spring Staircase Stone "
    "Storm Stranger Street Summer Swan Tailor Tower Traveller Tree Tunnel Valley "
    "Violin Visitor Voyage Wagon Waterfall Well Whale Widow Window Wolf Wood"
)
_SUBSTANCES = _words(
    "Amethyst Ash Bone Bread Chalk Clay Coal Cotton Dust Ember Flax Flour Fog Foam "
    "Frost Gold Granite Gravel Hail Hay Honey Ice Ink Lace Lead Leather Linen Malt "
    "Mist Moss Mud Nettle Oil Pepper Pine Rust Saffron Salt Sand Sawdust Silk Slate "
    "Sleet Smoke Snow Soap Soot Starch Steam Steel Straw Sugar Tar Thunder Tin "
    "Vinegar Wax Wheat Wine Wool"
)
_GERUNDS = _words(
    "Against Approaching Asking Before Behind Beneath Beyond Breaking Building "
    "Burying Carrying Chasing Closing Counting Crossing Drawing Escaping Facing "
    "Feeding Finding Following Forgetting Guarding Hearing Hiding Holding Hunting "
    "Keeping Leaving Losing Mapping Measuring Mending Missing Naming Opening "
    "Outside Painting Passing Past Praising Reading Remembering Saving Seeking "
    "Selling Sinking Stealing Tasting Through Toward Trading Trusting Turning Under "
    "Waking Watching Weighing Without"
)

_FORMS: dict[str, tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]] = {
    "person": (("{} {}{}", (_FIRST, *_SURNAMES)),),
    "film": (
        ("The {} {}", (_ADJECTIVES, _NOUNS)),
        ("{} and {}", (_NOUNS, _SUBSTANCES)),
        ("The {} of {} {}", (_NOUNS, _ADJECTIVES, _SUBSTANCES)),
    ),
    "book": (
        ("{} the {}", (_GERUNDS, _NOUNS)),
        ("My {} of {}", (_NOUNS, _SUBSTANCES)),
        ("{} {} {}", (_GERUNDS, _ADJECTIVES, _SUBSTANCES)),
    ),
    "city": (
        (
            "{}{}",
            (
                _words(
                    "Ald Amber Ard Ban Bex Bram Brig Cal Cam Chel Cor Cran Dal Der Dor Dun El Ever "
                    "Fal Far Fen Fro Gal Glen Gor Gran Had Hal Har Hel Hex Hol Hun Ing Ken Kes Kin "
                    "Lan Lark Lei Lin Lor Lyn Mal Mar Mel Mil Mor Nor Nun Oak Or Pad Pel Pen Por "
                    "Quor Rad Ram Red Rom Ros Sal Scar Sel Shel Sil Sol Stan Stav Sud Tam Tar Tel "
                    "Thor Til Tor Tre Ul Up Ver Wal War Wel Wes Win Wor Yar Yel"
                ),
                _words(
                    "bourne bridge brook bury by caster church cliff combe cote dale dean don "
                    "fleet ford gate ham haven head hithe hurst leigh ley low mere minster mouth "
                    "port quay ridge sby stead stoke thorpe ton tree wade wich wick worth"
                ),
            ),
        ),
    ),
    "country": (
        (
            "{}{}",
            (
                _words(
                    "Alb Aqu Bal Bel Bor Cad Card Dalm Drav Elv Esc Fab Gand Hesp Ill Jor Kald Kar "
                    "Lav Lus Mald Mol Nav Nub Ob Osk Pann Quil Rav Rod Sab Sam Tar Tav Umb Val Vel "
                    "Vin Zam Zir"
                ),
                _words("adia andia antis aria avia enia eria essia istan onia oria otia uria"),
            ),
        ),
    ),
    "language": (
        (
            "{}{}",
            (
                _words(
                    "Ber Brev Cord Dov Fend Gev Gheb Hud Jav Kech Kum Lem Luz Myrd Nesk Nuv Ord "
                    "Pesh Phal Rith Shov Syl Tezh Tuv Vot Wend Zhem"
                ),
                _words("aic alic emish eric ish itic ovian uese"),
            ),
        ),
    ),
    "company": (
        (
            "{}{} {}",
            (
                _words(
                    "Ac Ax Bi Bro Ca Cy Di Du Ex Fi Glo Gri Hy Jo Ko Kry Lu Lyx Me Mi Ne Nu Op Ox "
                    "Pi Pro Qua Ri Sa Sto Ta Tri Un Va Ve Vo Xe Ze Zi Zy"
                ),
                _words(
                    "bex bion cor dex dyne fex gon lara lix lon lux mex mira nexa nor nova phex "
                    "plex qo rex ria ron rox sero tara tex tron ver via vix vo xar xis zeta"
                ),
                _words(
                    "Broadcasting Brothers Collective Company Group Holdings Industries Media "
                    "Partners Pictures Press Productions Studios Union Ventures Works"
                ),
            ),
        ),
    ),
}
_SCRAMBLE = 2_147_483_647  # a prime above all capacities, so that i -> i * prime is a permutation


def capacity(kind: str) -> int:
    """Return how many different names there are of a kind."""
    return sum(prod(map(len, lists)) for _, lists in _FORMS[kind])


def invented_name(kind: str, number: int) -> str:
    """Return the name of a kind with this number, 0 to ``capacity(kind)`` - 1.

    >>> invented_name("person", 7), invented_name("film", 8)
    ('Ivo Bellaker', 'The Rising Pilot')
    """
    for form, lists in _FORMS[kind]:
        size = prod(map(len, lists))
        if number < size:
            return _written(form, lists, number * _SCRAMBLE % size)
        number -= size
    raise IndexError(f"expected a number below {capacity(kind)}")


def draw_names(kind: str, rng: Rng) -> Iterator[str]:
    """Yield different names of a kind without end; most have its first form.

    It slows down, and does not stop, where a form has no more names.
    """
    drawn = set()
    forms = _FORMS[kind]
    while True:
        form, lists = forms[0] if rng.bernoulli(0.5) else rng.choice(forms)
        name = _written(form, lists, rng.randrange(prod(map(len, lists))))
        if name not in drawn:
            drawn.add(name)
            yield name


def _written(form: str, lists: tuple[tuple[str, ...], ...], number: int) -> str:
    words = []
    for choices in lists:
        number, digit = divmod(number, len(choices))
        words.append(choices[digit])
    return form.format(*words)
