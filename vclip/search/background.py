"""256 everyday how-to sentences: what they score on an index tells what a score there is worth."""

from itertools import product

_VERBS_AND_OBJECTS = (
    ("chop wash peel slice", "the carrots|the potatoes|the onions|the apples"),
    ("boil stir season taste", "the soup|the sauce|the rice|the beans"),
    ("fry grill marinate turn", "the chicken|the fish|the steak|the tofu"),
    ("knead bake cut glaze", "the bread|the pie|the cookies|the pastry"),
    ("pour mix sweeten serve", "the coffee|the tea|the lemonade|the smoothie"),
    ("sand paint drill glue", "the board|the shelf|the chair|the door"),
    ("plant water prune fertilise", "the roses|the tomatoes|the hedge|the fruit tree"),
    ("wash dry iron fold", "the shirt|the trousers|the tablecloth|the curtains"),
    ("scrub rinse polish wipe", "the sink|the bathtub|the tiles|the mirror"),
    ("measure pin sew trim", "the fabric|the hem|the pocket|the sleeve"),
    ("brush braid curl dye", "her hair|his hair|the wig|the doll's hair"),
    ("remove clean grease replace", "the bicycle chain|the wheel bearing|the hinge|the gear"),
    ("unscrew test repair install", "the tap|the light switch|the door lock|the fan"),
    ("draw colour shade frame", "the portrait|the landscape|the flower|the cat"),
    ("feed bathe groom train", "the dog|the puppy|the horse|the pony"),
    ("pack lift carry wrap", "the box|the suitcase|the vase|the present"),
)
SENTENCES: tuple[str, ...] = tuple(
    f"{verb} {thing}"
    for verbs, things in _VERBS_AND_OBJECTS
    for verb, thing in product(verbs.split(), things.split("|"))
)
