"""Generators of the bAbI tasks without walking actors: 4 and 15 to 20."""

from __future__ import annotations

from random import Random

from zoo.memory._babi_story import Story
from zoo.memory._babi_world import GO, GRAB, PLACES

STEPS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
SIDES = {"above": (0, 1), "below": (0, -1), "to the right of": (1, 0), "to the left of": (-1, 0)}
SPECIES = {"mouse": "mice", "cat": "cats", "wolf": "wolves", "sheep": "sheep"}
NAMES = ("Gertrude", "Winona", "Emily", "Jessica")
MOTIVES = {
    "hungry": ("kitchen", "apple"), "thirsty": ("kitchen", "milk"),
    "tired": ("bedroom", "pajamas"), "bored": ("garden", "football"),
}  # fmt: skip


def two_arguments(rng: Random) -> Story:
    """Task 4: word order decides what is north of what."""
    story = Story()
    a, b, c = rng.sample(PLACES, 3)
    way = rng.choice(list(STEPS))
    facts = [(a, b), (b, c)]
    order = [0, 1]
    rng.shuffle(order)
    lines = {i: story.say(f"The {facts[i][0]} is {way} of the {facts[i][1]}.") for i in order}
    at = rng.choice(order)
    first, second = facts[at]
    if rng.random() < 0.5:
        story.ask(f"What is {way} of the {second}?", first, (lines[at],))
    else:
        story.ask(f"What is the {first} {way} of?", second, (lines[at],))
    return story


def deduction(rng: Random) -> Story:
    """Task 15: mice are afraid of wolves, Gertrude is a mouse."""
    story = Story()
    kinds = list(SPECIES)
    fear = {kind: rng.choice([k for k in kinds if k != kind]) for kind in kinds}
    kind_of = {name: rng.choice(kinds) for name in NAMES}
    facts = [("fear", k) for k in kinds] + [("kind", n) for n in NAMES]
    rng.shuffle(facts)
    line = {}
    for what, key in facts:
        if what == "fear":
            line[key] = story.say(f"{SPECIES[key].capitalize()} are afraid of {SPECIES[fear[key]]}.")
        else:
            line[key] = story.say(f"{key} is a {kind_of[key]}.")
    for name in rng.sample(NAMES, 4):
        kind = kind_of[name]
        story.ask(f"What is {name} afraid of?", fear[kind], (line[name], line[kind]))
    return story


def induction(rng: Random) -> Story:
    """Task 16: one frog is green, so the other is."""
    story = Story()
    kinds, colours = ["swan", "lion", "frog", "rhino"], ["white", "gray", "green", "yellow"]
    colour = dict(zip(rng.sample(kinds, 4), rng.sample(colours, 4), strict=True))
    names = rng.sample(("Lily", "Bernhard", "Greg", "Julius", "Brian"), 5)
    kind_of = dict(zip(names, [*colour, rng.choice(kinds)], strict=True))
    asked = names[4]
    line: dict[tuple[str, str], int] = {}
    facts = [(name, "kind") for name in names] + [(name, "colour") for name in names[:4]]
    rng.shuffle(facts)
    for name, what in facts:
        text = f"a {kind_of[name]}" if what == "kind" else colour[kind_of[name]]
        line[name, what] = story.say(f"{name} is {text}.")
    twin = next(name for name in names[:4] if kind_of[name] == kind_of[asked])
    support = line[asked, "kind"], line[twin, "kind"], line[twin, "colour"]
    story.ask(f"What color is {asked}?", colour[kind_of[asked]], support)
    return story


def positions(rng: Random) -> Story:
    """Task 17: two facts about three shapes; yes or no about a third pair, on an axis that the facts decide."""
    story = Story()
    a, b, c = rng.sample(("red square", "blue square", "pink rectangle", "triangle", "red sphere", "yellow square"), 3)
    first, second = rng.choice(list(SIDES)), rng.choice(list(SIDES))
    while SIDES[first] == tuple(-v for v in SIDES[second]):  # would leave the third pair open
        second = rng.choice(list(SIDES))
    lines = story.say(f"The {a} is {first} the {b}."), story.say(f"The {b} is {second} the {c}.")
    offset = tuple(x + y for x, y in zip(SIDES[first], SIDES[second], strict=True))
    decided = [s for s, d in SIDES.items() if any(x * y for x, y in zip(offset, d, strict=True))]
    for _ in range(8):
        side, turned = rng.choice(decided), rng.random() < 0.5
        x, y = (c, a) if turned else (a, c)
        along = sum(p * q for p, q in zip(offset, SIDES[side], strict=True)) * (-1 if turned else 1)
        story.ask(f"Is the {x} {side} the {y}?", "yes" if along > 0 else "no", lines)
    return story


def sizes(rng: Random) -> Story:
    """Task 18: what fits into what, by a chain of two facts."""
    story = Story()
    things = rng.sample(("box", "chest", "chocolate", "suitcase", "container"), 5)  # from small to large
    pairs = list(range(4))
    rng.shuffle(pairs)
    line = {}
    for i in pairs:
        small, large = things[i], things[i + 1]
        text = (
            f"The {small} fits inside the {large}."
            if rng.random() < 0.5
            else f"The {large} is bigger than the {small}."
        )
        line[i] = story.say(text)
    for _ in range(5):
        i = rng.randrange(3)
        x, y = (i, i + 2) if rng.random() < 0.5 else (i + 2, i)
        if rng.random() < 0.5:
            question, answer = f"Does the {things[x]} fit in the {things[y]}?", x < y
        else:
            question, answer = f"Is the {things[x]} bigger than the {things[y]}?", x > y
        story.ask(question, "yes" if answer else "no", (line[i], line[i + 1]))
    return story


def paths(rng: Random) -> Story:
    """Task 19: five places on a grid, joined as a tree; the way between two that are two steps apart."""
    story = Story()
    names = rng.sample(PLACES, 5)
    spot = {names[0]: (0, 0)}
    edges: list[tuple[str, str, str]] = []  # a is `way` of b
    for name in names[1:]:
        while True:
            base, (way, (dx, dy)) = rng.choice(list(spot)), rng.choice(list(STEPS.items()))
            place = spot[base][0] + dx, spot[base][1] + dy
            if place not in spot.values():
                break
        spot[name] = place
        edges.append((name, way, base))
    rng.shuffle(edges)
    line = {frozenset((a, b)): story.say(f"The {a} is {way} of the {b}.") for a, way, b in edges}
    cases = [(a, m, b) for a in names for m in names for b in names
             if a != b and frozenset((a, m)) in line and frozenset((m, b)) in line]  # fmt: skip
    a, m, b = rng.choice(cases)
    letters = [next(w[0] for w, d in STEPS.items() if d == (spot[y][0] - spot[x][0], spot[y][1] - spot[x][1]))
               for x, y in ((a, m), (m, b))]  # fmt: skip
    story.ask(
        f"How do you go from the {a} to the {b}?", ",".join(letters), (line[frozenset((a, m))], line[frozenset((m, b))])
    )
    return story


def motivations(rng: Random) -> Story:
    """Task 20: a state leads to a place and an object. All states are told before the first question."""
    story = Story()
    actors = rng.sample(("Sumit", "Yann", "Jason", "Antoine"), 4)
    mood = {actor: rng.choice(list(MOTIVES)) for actor in actors}
    line = {actor: story.say(f"{actor} is {mood[actor]}.") for actor in rng.sample(actors, 4)}
    for actor in actors:
        place, thing = MOTIVES[mood[actor]]
        story.ask(f"Where will {actor} go?", place, (line[actor],))
        story.say(f"{actor} {rng.choice(GO)} the {place}.")
        story.ask(f"Why did {actor} go to the {place}?", mood[actor], (line[actor],))
        if rng.random() < 0.75:
            story.say(f"{actor} {rng.choice(GRAB)} the {thing} there.")
            story.ask(f"Why did {actor} get the {thing}?", mood[actor], (line[actor],))
    return story
