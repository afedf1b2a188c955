"""The words of the stories. The first of each kind are those of the released tasks 1 to 3."""

PEOPLE = (
    *("Mary", "John", "Daniel", "Sandra"),
    *("Fred", "Bill", "Jeff", "Julie", "Emma", "Oscar", "Laura", "Peter"),
    *("Nina", "Hugo", "Clara", "Simon", "Vera", "Paul", "Ida", "Tom"),
)
WOMEN = ("Mary", "Sandra", "Julie", "Emma", "Laura", "Nina", "Clara", "Vera", "Ida")
PLACES = (
    *("garden", "bathroom", "kitchen", "office", "bedroom", "hallway"),
    *("park", "school", "cinema", "cellar", "attic", "garage", "library", "balcony"),
    *("station", "market", "church", "museum", "stable", "harbour"),
)
THINGS = (
    *("football", "milk", "apple"),
    *("book", "lamp", "umbrella", "key", "letter", "basket", "hammer", "towel", "candle"),
    *("violin", "map", "pillow", "bottle", "coat", "cup", "rope", "ladder"),
)

GOING = ("went to", "went back to", "moved to", "journeyed to", "travelled to")
TAKING = ("took", "got", "grabbed", "picked up")
PUTTING = ("dropped", "discarded", "left", "put down")
GIVING = ("gave", "handed", "passed")
LATER = ("After that", "Afterwards", "Following that", "Then")
