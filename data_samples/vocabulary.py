"""The words and pictures of MiniHowTo's world: 42 things, 6 tools, 12 actions, 42 topics, chatter.

Icons are named as in both icon sets. Sentences and narration draw their synonyms from the same tables.
"""

from typing import NamedTuple


class Action(NamedTuple):
    """`verbs` are (imperative, -ing) pairs; `tails` are optional ends of a test sentence or of a spoken step."""

    tool: str
    verbs: tuple[tuple[str, str], ...]
    tails: tuple[str, ...]


# name: (icon, what people call it)
THINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "apple": ("red-apple", ("apple", "red apple")),
    "banana": ("banana", ("banana", "plantain")),
    "lemon": ("lemon", ("lemon", "citrus")),
    "grapes": ("grapes", ("grapes", "bunch of grapes")),
    "watermelon": ("watermelon", ("watermelon", "melon")),
    "coconut": ("coconut", ("coconut", "coconut half")),
    "avocado": ("avocado", ("avocado", "alligator pear")),
    "eggplant": ("eggplant", ("eggplant", "aubergine")),
    "chili": ("hot-pepper", ("chili", "hot pepper")),
    "garlic": ("garlic", ("garlic", "garlic bulb")),
    "pretzel": ("pretzel", ("pretzel", "salty knot")),
    "pancakes": ("pancakes", ("pancakes", "flapjacks")),
    "cheese": ("cheese-wedge", ("cheese", "cheddar")),
    "steak": ("cut-of-meat", ("steak", "beef")),
    "burger": ("hamburger", ("burger", "hamburger")),
    "fries": ("french-fries", ("fries", "chips")),
    "pizza": ("pizza", ("pizza", "slice of pizza")),
    "hot dog": ("hot-dog", ("hot dog", "frankfurter")),
    "egg": ("egg", ("egg", "eggshell")),
    "lobster": ("lobster", ("lobster", "crayfish")),
    "crab": ("crab", ("crab", "crab shell")),
    "squid": ("squid", ("squid", "calamari")),
    "doughnut": ("doughnut", ("doughnut", "donut")),
    "cookie": ("cookie", ("cookie", "biscuit")),
    "chocolate": ("chocolate-bar", ("chocolate", "cocoa bar")),
    "waffle": ("waffle", ("waffle", "belgian waffle")),
    "sandwich": ("sandwich", ("sandwich", "toastie")),
    "rice ball": ("rice-ball", ("rice ball", "onigiri")),
    "dumpling": ("dumpling", ("dumpling", "pierogi")),
    "pear": ("pear", ("pear", "green pear")),
    "tomato": ("tomato", ("tomato", "ripe tomato")),
    "peas": ("pea-pod", ("peas", "pea pod")),
    "popcorn": ("popcorn", ("popcorn", "popped kernels")),
    "cactus": ("cactus", ("cactus", "saguaro")),
    "maple leaf": ("maple-leaf", ("maple leaf", "autumn leaf")),
    "butter": ("butter", ("butter", "stick of margarine")),
    "oyster": ("oyster", ("oyster", "shellfish")),
    "dango": ("dango", ("dango", "sweet skewer")),
    "takeout box": ("takeout-box", ("takeout box", "carton")),
    "spaghetti": ("spaghetti", ("spaghetti", "noodles")),
    "teapot": ("teapot", ("teapot", "kettle")),
    "candle": ("candle", ("candle", "wax light")),
}

ACTIONS: dict[str, Action] = {
    "chop": Action(
        "knife",
        (("chop", "chopping"), ("dice", "dicing"), ("mince", "mincing")),
        ("into small pieces", "really fine", "with quick cuts"),
    ),
    "slice": Action(
        "knife",
        (("slice", "slicing"), ("carve", "carving"), ("shave", "shaving")),
        ("nice and thin", "with long strokes", "into sheets"),
    ),
    "stir": Action(
        "spoon",
        (("stir", "stirring"), ("mix", "mixing"), ("swirl", "swirling")),
        ("round and round", "in circles", "until it is smooth"),
    ),
    "scoop": Action(
        "spoon",
        (("scoop out", "scooping out"), ("hollow out", "hollowing out"), ("spoon out", "spooning out")),
        ("little by little", "with care", "down to the bottom"),
    ),
    "fry": Action(
        "pan",
        (("fry", "frying"), ("sear", "searing"), ("brown", "browning")),
        ("over a low heat", "in the pan", "until it is golden"),
    ),
    "flip": Action(
        "pan",
        (("flip", "flipping"), ("toss", "tossing"), ("turn over", "turning over")),
        ("in the air", "with a flick of the wrist", "again and again"),
    ),
    "press": Action(
        "hand",
        (("press", "pressing"), ("knead", "kneading"), ("squash", "squashing")),
        ("with your palm", "down hard", "until it is flat"),
    ),
    "roll": Action(
        "hand",
        (("roll", "rolling"), ("twist", "twisting"), ("rotate", "rotating")),
        ("back and forth", "under your hand", "from side to side"),
    ),
    "season": Action(
        "bottle",
        (("season", "seasoning"), ("spice", "spicing"), ("sprinkle", "sprinkling")),
        ("with a good shake", "to taste", "from all sides"),
    ),
    "drizzle": Action(
        "bottle",
        (("drizzle", "drizzling"), ("douse", "dousing"), ("baste", "basting")),
        ("with sauce", "slowly", "with a thin stream of oil"),
    ),
    "wash": Action(
        "brush",
        (("wash", "washing"), ("scrub", "scrubbing"), ("clean", "cleaning")),
        ("until it shines", "all over", "to get the dirt off"),
    ),
    "glaze": Action(
        "brush",
        (("glaze", "glazing"), ("paint", "painting"), ("coat", "coating")),
        ("with a thin layer", "with even strokes", "with syrup"),
    ),
}

TOOLS = ("knife", "spoon", "pan", "hand", "bottle", "brush")
PRESENTERS = ("woman-cook", "man-cook", "woman-farmer", "man-farmer", "woman-artist", "man-artist", "woman-teacher")

# title: (hue 0-359, two decor icons)
TOPICS: dict[str, tuple[int, tuple[str, str]]] = {
    "summer salad": (95, ("sun", "potted-plant")),
    "campfire supper": (18, ("tent", "fire")),
    "birthday party": (325, ("balloon", "wrapped-gift")),
    "winter brunch": (200, ("snowflake", "sled")),
    "beach picnic": (45, ("palm-tree", "beach-with-umbrella")),
    "moonlight snack": (250, ("full-moon", "owl")),
    "tea time": (150, ("hot-beverage", "blossom")),
    "space lunch": (230, ("rocket", "ringed-planet")),
    "music night": (285, ("guitar", "violin")),
    "rainy day stew": (215, ("umbrella-with-rain-drops", "cloud-with-rain")),
    "farm breakfast": (60, ("rooster", "tractor")),
    "christmas dinner": (0, ("christmas-tree", "bell")),
    "library bites": (30, ("books", "glasses")),
    "harbour plate": (190, ("anchor", "sailboat")),
    "circus treats": (345, ("circus-tent", "carousel-horse")),
    "desert kitchen": (38, ("camel", "desert")),
    "garden feast": (120, ("sunflower", "butterfly")),
    "robot buffet": (175, ("robot", "gear")),
    "castle banquet": (270, ("castle", "crown")),
    "jungle bowl": (140, ("monkey", "parrot")),
    "mountain meal": (210, ("mountain", "evergreen-tree")),
    "train ride snack": (8, ("locomotive", "luggage")),
    "football supper": (105, ("soccer-ball", "trophy")),
    "pirate dish": (52, ("money-bag", "skull")),
    "polar plate": (185, ("penguin", "ice")),
    "city lunch": (240, ("taxi", "office-building")),
    "haunted dinner": (262, ("ghost", "spider-web")),
    "bamboo kitchen": (85, ("panda", "red-paper-lantern")),
    "rose tea": (335, ("rose", "cup-with-straw")),
    "workshop lunch": (25, ("hammer", "toolbox")),
    "school lunch": (222, ("backpack", "pencil")),
    "movie night": (300, ("clapper-board", "movie-camera")),
    "wedding table": (315, ("bouquet", "ring")),
    "detox kitchen": (160, ("herb", "lotus")),
    "safari grill": (35, ("lion", "giraffe")),
    "dragon feast": (355, ("dragon", "volcano")),
    "fishing trip": (196, ("fishing-pole", "tropical-fish")),
    "cycling fuel": (72, ("bicycle", "sports-medal")),
    "artist supper": (278, ("artist-palette", "framed-picture")),
    "cat cafe": (292, ("cat", "yarn")),
    "airport snack": (205, ("airplane", "globe-with-meridians")),
    "autumn roast": (22, ("fallen-leaf", "hedgehog")),
}

CHATTER = (
    "hey guys welcome back to my channel",
    "if you are new here please subscribe",
    "let me know in the comments what you think",
    "my grandmother taught me this when i was little",
    "i have been doing this for years and it never gets old",
    "you can get all of this at any store near you",
    "don't worry if it doesn't look perfect",
    "this is honestly my favorite part",
    "it smells so good in here right now",
    "sorry about the noise my neighbors are at it again",
    "i'll put the link down below for you",
    "okay so where was i",
    "that looks really good you guys",
    "my kids love it every single time",
    "and don't forget to hit the like button",
    "you know what i mean",
    "it's really not that hard once you get going",
    "take your time there is no rush",
    "i made this last week and it was gone in a minute",
    "a lot of you have asked me about this",
    "we're almost there just a little longer",
    "oh my goodness look at that",
    "just be careful with your fingers",
    "and that's pretty much it",
    "thank you so much for watching and see you next time",
    "you could do this the night before if you want",
    "some people do it differently but this works for me",
    "i think that's about right",
)
INTROS = ("today we're doing {topic}", "so this is all about {topic}", "welcome to another {topic} video")
LEADS = (
    "so now we're going to", "go ahead and", "next you want to", "then you just", "the first thing is to",
    "what i like to do is", "okay let's", "and now", "you're gonna want to", "at this point we", "alright so",
)  # fmt: skip
LEADS_ING = ("so i'm just", "right now i'm", "we are still", "here you see me", "and we start by", "keep on")
