"""Words from which several skills build their items."""

from __future__ import annotations

from random import Random

NAMES = (
    "Ana", "Boris", "Carla", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Irene", "Jonas", "Kaya", "Lena", "Marek",
    "Nadia", "Oscar", "Paula", "Quentin", "Rosa", "Stefan", "Tara", "Umar", "Vera", "Walter", "Ximena", "Yusuf", "Zoe",
)  # fmt: skip
CITIES = (
    "Lisbon", "Oslo", "Krakow", "Dublin", "Vienna", "Athens", "Riga", "Porto", "Bergen", "Seville", "Lyon", "Turin",
    "Prague", "Malmo", "Ghent", "Basel", "Tartu", "Zagreb", "Bilbao", "Leeds",
)  # fmt: skip
JOBS = (
    "baker", "nurse", "pilot", "carpenter", "teacher", "gardener", "plumber", "dentist", "painter", "librarian",
    "farmer", "tailor", "chemist", "barber", "sailor", "potter",
)  # fmt: skip
PETS = ("cat", "dog", "parrot", "rabbit", "turtle", "hamster", "goldfish", "ferret", "canary", "gecko")
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black", "brown", "pink", "grey", "silver")
FRUITS = (
    "apple", "plum", "cherry", "mango", "lemon", "grape", "peach", "melon", "banana", "fig", "kiwi", "pear", "papaya",
    "quince", "lime", "apricot", "coconut", "guava", "olive", "raspberry",
)  # fmt: skip
INSTRUMENTS = ("violin", "flute", "drum", "trumpet", "cello", "harp", "piano", "guitar", "oboe", "banjo", "clarinet")
THINGS = (
    "pencils", "marbles", "stamps", "books", "apples", "buttons", "coins", "shells", "cards", "candles", "tickets",
    "bottles", "bricks", "postcards", "muffins", "tiles",
)  # fmt: skip
WORDS = (
    "river", "window", "garden", "silver", "candle", "bridge", "forest", "pocket", "button", "mirror", "ladder",
    "basket", "market", "winter", "summer", "thunder", "blanket", "lantern", "harbor", "meadow", "pillow", "rocket",
    "saddle", "temple", "violet", "walnut", "anchor", "barrel", "castle", "dragon", "engine", "feather", "glacier",
    "hammer", "island", "jacket", "kettle", "lizard", "magnet", "needle", "oyster", "parcel", "quarry", "ribbon",
)  # fmt: skip
TOPICS = (
    "cats", "the sea", "rain", "bicycles", "bread", "a walk in the park", "mountains", "music", "trains", "the moon",
    "libraries", "gardens", "winter", "coffee", "friendship", "old houses", "birds", "bridges", "markets", "holidays",
    "football", "cooking", "sleep", "paper", "horses", "islands", "clocks", "maps", "schools", "trees",
)  # fmt: skip


def some(rng: Random, pool: tuple[str, ...], count: int) -> list[str]:
    """`count` different words of a pool."""
    return rng.sample(pool, count)
