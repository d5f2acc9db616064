"""The words of English that name a direction: what they mean, and beside which words they mean something else."""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _forms(*verbs: str) -> frozenset[str]:
    """Verbs with their regular forms; a verb that ends in e loses it, one in brackets doubles its last letter."""
    forms: set[str] = set()
    for verb in verbs:
        doubled = verb.endswith("+")
        stem = verb.rstrip("+")
        last = stem + stem[-1] if doubled else stem.removesuffix("e")
        forms |= {stem, f"{stem}s", f"{stem}es", f"{last}ing", f"{last}ed"}
    return frozenset(forms)


TURN = _forms("turn", "spin+", "rotate", "swing", "swivel", "pivot", "steer", "veer", "bank", "yaw") | {"spun", "swung"}
MOVE = TURN | _forms(
    "go", "fly", "head", "move", "come", "walk", "step+", "travel", "continue", "proceed", "keep", "bear", "take",
    "drift", "slide", "shift", "advance", "make", "cut+", "run+", "drive", "navigate", "look", "face", "follow", "stay",
    "ride", "march", "hover", "lift", "pull", "push", "race", "glide", "return", "retreat", "aim", "point", "hang",
) | {"went", "gone", "flew", "flown", "flies", "came", "kept", "took", "taken", "made", "ran", "drove"}  # fmt: skip

#: One word that names a direction wherever it stands, but for what `NEVER_BEFORE` and `NEVER_AFTER` say.
WORDS: dict[str, str] = {
    **dict.fromkeys(("left", "leftward", "leftwards", "leftmost", "lefthand"), "left"),
    **dict.fromkeys(("right", "rightward", "rightwards", "rightmost", "righthand", "starboard"), "right"),
    **dict.fromkeys(("forward", "forwards", "ahead", "straight", "onward", "onwards"), "forward"),
    **dict.fromkeys(("backward", "backwards", "rearward", "rearwards"), "back"),
    **dict.fromkeys(("upward", "upwards", "skyward", "skywards"), "up"),
    **dict.fromkeys(("downward", "downwards"), "down"),
    **dict.fromkeys(_forms("ascend", "climb") | {"rise", "rising"}, "up"),
    **dict.fromkeys(_forms("descend"), "down"),
    "clockwise": "clockwise",
    **dict.fromkeys(("counterclockwise", "anticlockwise"), "counterclockwise"),
    "above": "above",
    **dict.fromkeys(("below", "beneath", "underneath", "under"), "below"),
}
COMPASS: dict[str, str] = {
    **{
        point + ending: point
        for point in ("north", "south", "east", "west")
        for ending in ("", "ern", "ernmost", "erly", "ward", "wards", "bound")
    },
    **{
        ns + ew + ending: f"{ns}{ew}"
        for ns in ("north", "south")
        for ew in ("east", "west")
        for ending in ("", "ern", "erly", "ward", "wards", "bound")
    },
}
#: Names that begin with a point of the compass.
NAMED = _set(
    "street st avenue ave road rd drive boulevard blvd lane korea africa america carolina dakota virginia pole"
)

#: Words after which the word is no direction: "you left", "all right", "look forward to".
NEVER_AFTER: dict[str, frozenset[str]] = {
    "left": _set(
        "you i we they he she have has had having just already who nothing been getting there's what's you've i've "
        "we've they've who've you'd i'd we'd they'd he'd she'd who'd haven't hasn't hadn't"
    ),
    "right": frozenset(("all", "that's", "you're", "quite")),
    "forward": frozenset(("look", "looking", "looks")),
    "rise": frozenset(("high", "low", "mid", "the", "a")),
    "above": frozenset(("mentioned", "as")),
}
#: Words before which the word is no direction unless a word of `LEADS` stands before: "right now", "right next to".
NEVER_BEFORE: dict[str, frozenset[str]] = {
    "left": frozenset(("behind",)),
    "right": _set(
        "now away next before after at behind above below beside between here there in past where by under over along "
        "angle angles across beyond around against near outside inside through into"
    ),
    "straight": _set("up down left right north south east west backward backwards back"),
    "under": frozenset(("any", "no", "way")),
}
LEADS = MOVE | _set(
    "the your his her its my our their a an to slight sharp hard immediate first second third next slightly far "
    "sharply hard immediately further and or but then not than of left right directly"
)

#: After a word of `MOVE`, these mean a direction.
AFTER_MOVE: dict[str, str] = {"back": "around", "up": "up", "down": "down"}
#: Verbs after which `back` leaves the face where it was; "go back" turns it.
BACKING = _forms("move", "step+", "shift", "drift", "slide", "pull")
#: "up the street" is along it, "up to the tower" is as far as it.
ALONG = _set("street road path lane avenue alley hall hallway corridor river trail sidewalk track runway")

#: What turns on the spot clockwise turns right; what flies clockwise around something doesn't.
ROTATED = {"clockwise": "right", "counterclockwise": "left"}
ROTATIONS = _set("turn turns rotation rotations spin spins")
ORBITING = _forms("circle", "orbit", "loop")
#: "Turn 180", "do a 180" and "turn left by 180" are half a turn where these follow, and not a number, a name or a unit.
HALF_AFTER = TURN | frozenset(("a", "full", "quick", "complete"))
HALF_BY = _set("by through about exactly full another left right clockwise counterclockwise")
HALF_BEFORE = _set(
    "and or so to toward towards at in on by from near past here there turn turns now left right clockwise "
    "counterclockwise"
)

#: A movement of the altitude.
RAISE = _forms("gain", "increase", "raise")
LOWER = _forms("lose", "decrease", "reduce", "lower", "drop+")
ALTITUDE = frozenset(("altitude", "height", "elevation"))

OPPOSITES: dict[str, frozenset[str]] = {
    one: frozenset(others)
    for one, *others in (
        ("left", "right"), ("right", "left"), ("forward", "back", "around"), ("back", "forward"), ("around", "forward"),
        ("up", "down"), ("down", "up"), ("north", "south"), ("south", "north"), ("east", "west"), ("west", "east"),
        ("northeast", "southwest"), ("southwest", "northeast"), ("northwest", "southeast"), ("southeast", "northwest"),
        ("clockwise", "counterclockwise"), ("counterclockwise", "clockwise"), ("in front", "behind"),
        ("behind", "in front"), ("above", "below"), ("below", "above"),
    )
}  # fmt: skip

#: Words that turn what follows into its contrary, and each other: "don't miss the left turn" asks for it.
NEGATORS = _set(
    "not no never without neither cannot dont avoid avoids avoiding refrain miss missing forget forgetting fail "
    "failing hesitate"
)
#: After another negator it goes on with it, and by itself it is one.
GOES_ON = "nor"
#: Every word with which the name of a direction can begin: at any other there is nothing to look for.
STARTS = TURN.union(WORDS, COMPASS, AFTER_MOVE, RAISE, LOWER) | _set(
    "u reverse reversing about 180 counter anti port behind in"
)
#: What ends the reach of a negator. `and` ends it unless a direction follows at once.
BOUNDS = frozenset(".,;:!?()\n") | _set("but then until when once while after before")
REACH = 6
