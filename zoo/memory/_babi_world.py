"""Generators of the bAbI tasks about actors who walk and carry: 1, 2, 3 and 5 to 14, from a world whose state is known."""

from __future__ import annotations

import itertools
from random import Random

from zoo.memory._babi_story import Story

ACTORS = {"Mary": "she", "John": "he", "Sandra": "she", "Daniel": "he"}
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "football", "milk")
GO = ("moved to", "went to", "journeyed to", "travelled to", "went back to")
GRAB = ("picked up", "took", "grabbed", "got")
DROP = ("dropped", "discarded", "put down", "left")
NUMBERS = ("none", "one", "two", "three")


def other(rng: Random, choices: tuple[str, ...], but: str | None) -> str:
    return rng.choice([c for c in choices if c != but])


class World:
    """Who is where, who has what, where each object has been; every fact with the lines that told it."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.story = rng, Story()
        self.where: dict[str, tuple[str, int]] = {}
        self.held: dict[str, tuple[str, int]] = {}  # object -> holder, line of the grab
        self.seen: dict[str, list[tuple[str, int, int]]] = {o: [] for o in OBJECTS}  # (place, walk, grab or drop)
        self.touched: dict[str, list[int]] = {a: [] for a in ACTORS}
        self.carried: dict[str, list[str]] = {a: [] for a in ACTORS}

    def walk(self, actor: str | None = None) -> str:
        actor = actor or self.rng.choice(list(ACTORS))
        place = other(self.rng, PLACES, self.where.get(actor, (None, 0))[0])
        line = self.story.say(f"{actor} {self.rng.choice(GO)} the {place}.")
        self.where[actor] = (place, line)
        for thing in self.carried[actor]:
            self.seen[thing].append((place, line, self.held[thing][1]))
        return actor

    def handle(self) -> None:
        """A grab, a drop, or a walk where neither is possible. An object can be grabbed where it was left."""
        rng = self.rng
        actor = rng.choice(list(ACTORS))
        if actor not in self.where or rng.random() < 0.4:
            self.walk(actor)
            return
        place, walked = self.where[actor]
        free = [o for o in OBJECTS if o not in self.held and (not self.seen[o] or self.seen[o][-1][0] == place)]
        if self.carried[actor] and (not free or rng.random() < 0.4):
            thing = rng.choice(self.carried[actor])
            line = self.story.say(f"{actor} {rng.choice(DROP)} the {thing}.")
            self.carried[actor].remove(thing)
            del self.held[thing]
            self.seen[thing].append((place, walked, line))
        elif free:
            thing = rng.choice(free)
            line = self.story.say(f"{actor} {rng.choice(GRAB)} the {thing}.")
            self.carried[actor].append(thing)
            self.held[thing] = (actor, line)
            self.seen[thing].append((place, walked, line))
        else:
            self.walk(actor)
            return
        self.touched[actor].append(line)


def where_is_actor(rng: Random, task: int) -> Story:
    """Tasks 1 (where is), 6 (yes or no), 11 and 13 (pronouns), 12 (two actors), told in pairs of sentences."""
    world = World(rng)
    story, support = world.story, dict[str, tuple[int, ...]]()
    place: dict[str, str] = {}
    while story.questions < 5:
        for _ in range(2 if task in (1, 6, 12) else 1):
            who = rng.sample(list(ACTORS), 2 if task in (12, 13) else 1)
            subject = " and ".join(who)
            spot = other(rng, PLACES, place.get(who[0]))
            lines: tuple[int, ...] = (story.say(f"{subject} {rng.choice(GO)} the {spot}."),)
            if task in (11, 13):
                pronoun = "they" if task == 13 else ACTORS[who[0]]
                spot = other(rng, PLACES, spot)
                lead = rng.choice(("Then", "After that", "Following that", "Afterwards"))
                lines += (story.say(f"{lead} {pronoun} {rng.choice(GO)} the {spot}."),)
            for actor in who:
                place[actor], support[actor] = spot, lines
        actor = rng.choice(list(place))
        if task == 6:
            asked = place[actor] if rng.random() < 0.5 else other(rng, PLACES, place[actor])
            story.ask(f"Is {actor} in the {asked}?", "yes" if asked == place[actor] else "no", support[actor])
        else:
            story.ask(f"Where is {actor}?", place[actor], support[actor])
    return story


def objects(rng: Random, task: int) -> Story:
    """Tasks 2 (where is the object), 3 (where was it before), 7 (how many) and 8 (which ones)."""
    world = World(rng)
    story, quiet = world.story, 0
    while story.questions < 5:
        world.handle()
        quiet += 1
        if quiet < 2 or rng.random() < 0.5 or len(story.lines) > 200:
            if len(story.lines) > 220:  # a story that offers nothing to ask is started anew
                return objects(rng, task)
            continue
        if task in (2, 3):
            thing = rng.choice(OBJECTS)
            history = world.seen[thing]
            if task == 2 and history:
                spot, walk, hand = history[-1]
                story.ask(f"Where is the {thing}?", spot, (walk, hand))
                quiet = 0
            elif task == 3:
                stays = [list(run) for _, run in itertools.groupby(history, key=lambda h: h[0])]
                spots = [run[0][0] for run in stays]
                # The place that is asked about must have been visited once, or "before" would be ambiguous.
                cases = [i for i in range(1, len(stays)) if spots.count(spots[i]) == 1]
                if cases:
                    at = rng.choice(cases)
                    (place, walk, _), (spot, arrival, grab) = stays[at - 1][-1], stays[at][0]
                    story.ask(f"Where was the {thing} before the {spot}?", place, (walk, grab, arrival))
                    quiet = 0
        else:
            actor = rng.choice(list(ACTORS))
            has = world.carried[actor]
            if actor not in world.where:
                continue
            support = world.touched[actor] or [world.where[actor][1]]
            if task == 7:
                story.ask(f"How many objects is {actor} carrying?", NUMBERS[len(has)], support)
            else:
                story.ask(f"What is {actor} carrying?", ",".join(has) or "nothing", support)
            quiet = 0
    return story


def giving(rng: Random) -> Story:
    """Task 5: who gave what to whom; each question is about the last gift."""
    story = Story()
    owner = {thing: rng.choice(list(ACTORS)) for thing in OBJECTS}
    for thing in OBJECTS:
        story.say(f"{owner[thing]} {rng.choice(GRAB)} the {thing}.")
    while story.questions < 5:
        if rng.random() < 0.5:
            story.say(f"{rng.choice(list(ACTORS))} {rng.choice(GO)} the {rng.choice(PLACES)}.")
        thing = rng.choice(OBJECTS)
        giver = owner[thing]
        taker = owner[thing] = other(rng, tuple(ACTORS), giver)
        line = story.say(f"{giver} {rng.choice(('gave', 'passed', 'handed'))} the {thing} to {taker}.")
        question, answer = rng.choice(
            (
                (f"What did {giver} give to {taker}?", thing),
                (f"Who gave the {thing} to {taker}?", giver),
                (f"Who did {giver} give the {thing} to?", taker),
                (f"Who gave the {thing}?", giver),
                (f"Who received the {thing}?", taker),
            )
        )
        story.ask(question, answer, (line,))
    return story


def uncertain(rng: Random, task: int) -> Story:
    """Tasks 9 (negation) and 10 (either ... or): yes, no, and in task 10 maybe."""
    story = Story()
    known: dict[str, tuple[tuple[str, ...], bool, int]] = {}  # places, whether they hold, line
    while story.questions < 5:
        for _ in range(2):
            actor = rng.choice(list(ACTORS))
            first, second = rng.sample(PLACES, 2)
            if rng.random() < 0.5:
                known[actor] = (first,), True, story.say(f"{actor} {rng.choice(('is in', *GO))} the {first}.")
            elif task == 9:
                text = rng.choice((f"{actor} is not in the {first}.", f"{actor} is no longer in the {first}."))
                known[actor] = (first,), False, story.say(text)
            else:
                line = story.say(f"{actor} is either in the {first} or the {second}.")
                known[actor] = (first, second), True, line
        actor = rng.choice(list(known))
        places, positive, line = known[actor]
        # What is not in one place may be in any other: only that place can be asked about.
        asked = rng.choice(places) if not positive or rng.random() < 0.6 else rng.choice(PLACES)
        if not positive or asked not in places:
            answer = "no"
        else:
            answer = "yes" if len(places) == 1 else "maybe"
        story.ask(f"Is {actor} in the {asked}?", answer, (line,))
    return story


def times(rng: Random) -> Story:
    """Task 14: four times of day told in any order; where was somebody before a place?"""
    story = Story()
    moments = ("Yesterday", "This morning", "This afternoon", "This evening")
    day = {actor: rng.sample(PLACES, 4) for actor in rng.sample(list(ACTORS), 2)}
    facts = [(actor, moment) for actor in day for moment in range(4)]
    rng.shuffle(facts)
    told: dict[tuple[str, int], int] = {}
    while story.questions < 5:
        for actor, moment in facts[:2]:
            text = f"{moments[moment]} {actor} {rng.choice(GO)} the {day[actor][moment]}."
            told[actor, moment] = story.say(text)
        facts = facts[2:]
        cases = [(a, m) for a, m in told if (a, m - 1) in told]
        if not cases:
            continue
        actor, moment = rng.choice(cases)
        support = told[actor, moment - 1], told[actor, moment]
        story.ask(f"Where was {actor} before the {day[actor][moment]}?", day[actor][moment - 1], support)
    return story
