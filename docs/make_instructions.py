"""Writes `src/sparring/data/instructions.jsonl`, the shipped set `sparring:instructions`.

Each prompt asks for a few words about a topic and, in words, for one thing that code can check. `train` has 100 topics,
7 kinds of instruction in four wordings each, and a gold answer that obeys, written by rule. `held_out` has 30 other
topics in four groups:

    unseen topics     kinds and wordings of training
    unseen wordings   the same topics, kinds and arguments, asked in words that training never had
    unseen kinds      18 kinds that training never had
    two instructions  two kinds of training in one prompt; training has one in each

`validation` has 20 further topics, with kinds and wordings of training: it may choose a setting, and is no result.

Rows alternate between kinds, and half of the held-out rows are of unseen topics, so any prefix is such a mixture.
Leaves out: whether an answer is true or well written, and other languages.

    python docs/make_instructions.py
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, cycle, zip_longest
from pathlib import Path

Check = dict[str, object]
Row = dict[str, object]

TARGET = Path(__file__).parents[1] / "src/sparring/data/instructions.jsonl"
TURNS = (
    "unseen topics",
    "unseen wordings",
    "unseen topics",
    "unseen kinds",
    "unseen topics",
    "unseen wordings",
    "unseen topics",
    "two instructions",
)
"""the order of the held-out groups"""
TWICE = 2
"""prompts of every topic and kind in training, asked in other words and with other arguments"""
PAIRS = 240
"""prompts with two instructions"""

# Topic and two sentences of which gold answers are made.
TOPICS = """
bread | Warm bread fills the kitchen with a good smell. | It needs flour, water, salt and time.
the sea | The sea covers most of our planet. | Its salt water moves with the moon.
a night train | A night train carries sleeping people between cities. | You wake up in another place.
snow | Snow is made of tiny crystals of ice. | It makes the whole town quiet.
bicycles | Bicycles are cheap, clean and easy to repair. | They turn effort into speed.
honey | Bees make honey from the nectar of flowers. | It keeps for many years.
libraries | Libraries lend books to everybody for free. | They are calm places to study.
the moon | The moon circles the Earth once a month. | It reflects the light of the sun.
coffee | Coffee is brewed from roasted beans. | Many people drink it in the morning.
football | Football is played by two teams of eleven. | A match lasts ninety minutes.
rivers | Rivers carry fresh water from hills to the sea. | Many old cities stand beside them.
gardens | Gardens need sun, water and patience. | They give food and flowers.
the piano | The piano has eighty eight keys. | Its hammers strike strings inside.
cats | Cats sleep for most of the day. | They hunt quietly at night.
dogs | Dogs are loyal and love to play. | They need a walk every day.
rain | Rain falls from heavy clouds. | It feeds the plants and fills the rivers.
mountains | Mountains are cold and windy at the top. | The view repays the climb.
tea | Tea is made from dried leaves and hot water. | It is older than coffee.
trees | Trees clean the air and give shade. | Some live for a thousand years.
friendship | Friendship grows when people help each other. | It needs honesty and time.
the desert | The desert is hot by day and cold at night. | Very little rain falls there.
chess | Chess is a game of plans and patience. | Each player begins with sixteen pieces.
bees | Bees visit flowers and carry pollen. | Many crops depend on them.
bridges | Bridges join two sides of a river. | Engineers make them strong and safe.
music | Music can change a mood in a minute. | Every culture has songs of its own.
winter | Winter brings short days and cold air. | It is a good time for soup.
summer | Summer days are long and warm. | Children play outside until evening.
sleep | Sleep helps the body and the mind to recover. | Adults need about eight hours.
apples | Apples are sweet, crisp and healthy. | They grow on trees in cool places.
the market | The market sells fruit, fish and fresh bread. | People meet there on Saturday.
computers | Computers follow instructions very fast. | They store pictures, words and numbers.
whales | Whales are the largest animals in the sea. | They breathe air at the surface.
volcanoes | Volcanoes push hot rock out of the ground. | Their soil is good for farms.
windmills | Windmills turn moving air into work. | They once ground grain into flour.
postcards | Postcards bring a picture and a short greeting. | They are slow but people keep them.
cooking | Cooking at home saves money. | It is also a way to care for others.
swimming | Swimming trains the whole body. | Water carries your weight while you move.
letters | Letters arrive slowly but are kept for years. | A handwritten page feels personal.
clocks | Clocks divide the day into equal parts. | The oldest ones used water or shadow.
maps | Maps show a large place on a small page. | They help travellers find the way.
soup | Soup is warm, cheap and easy to share. | Almost any vegetable can go in.
the sun | The sun gives light and heat to the Earth. | Without it nothing would grow.
stars | Stars are far away and very hot. | Sailors once used them to find north.
horses | Horses run fast and carry riders. | They sleep while standing.
rice | Rice feeds more than half of the world. | It grows in wet fields.
potatoes | Potatoes grow under the ground. | You can boil, bake or fry them.
eggs | Eggs are full of protein. | They cook in a few minutes.
cheese | Cheese is made from milk and salt. | It becomes stronger with age.
paper | Paper is made from wood or old cloth. | It was invented in China.
glass | Glass is made from hot sand. | It can be recycled again and again.
the wheel | The wheel made it easy to move heavy loads. | It is thousands of years old.
rockets | Rockets burn fuel to leave the Earth. | They carry satellites into space.
islands | Islands have water on every side. | Their animals are often special.
frogs | Frogs begin their lives in water. | They catch insects with a long tongue.
owls | Owls fly without a sound. | They can turn their heads very far.
the forest | The forest is home to birds, deer and foxes. | Walking there makes people calm.
painting | Painting needs colour, light and a patient eye. | A picture can tell a story.
theatre | Theatre is played live in front of people. | Every evening is a little different.
school | School teaches children to read and to think. | It is also where friends meet.
teachers | Teachers explain hard things in simple words. | A good one is remembered for life.
doctors | Doctors help sick people to get better. | They study for many years.
farmers | Farmers grow the food that we eat. | Their day begins before sunrise.
ships | Ships carry goods across the oceans. | A large one holds thousands of boxes.
trains | Trains move many people with little energy. | They run on steel rails.
buses | Buses take people to work for little money. | One bus replaces forty cars.
lighthouses | Lighthouses warn ships of rocks at night. | Their light turns in a circle.
kites | Kites need wind and a long string. | They are a joy on the beach.
dreams | Dreams come while we sleep. | Most of them are forgotten by breakfast.
time | Time moves at the same pace for all of us. | Nobody can buy more of it.
colours | Colours come from the way things reflect light. | Red and yellow make orange.
numbers | Numbers help us count and compare. | They have no end.
mirrors | Mirrors send light straight back. | They show left and right exchanged.
shadows | Shadows appear where light is blocked. | They are longest in the evening.
salt | Salt makes food taste better. | It comes from the sea or from mines.
sugar | Sugar gives quick energy. | Too much of it is bad for the teeth.
lemons | Lemons are yellow, fresh and sour. | Their juice is used in many drinks.
carrots | Carrots are orange roots. | They are good raw or cooked.
fishing | Fishing takes patience and a quiet place. | The best hour is early morning.
camping | Camping means sleeping in a tent under the stars. | You cook over a small fire.
hiking | Hiking is walking in nature for hours. | Good shoes are important.
running | Running is simple and free. | It makes the heart strong.
dancing | Dancing joins music and movement. | It is fun in a group.
singing | Singing together makes people happy. | It needs only breath and a tune.
photography | Photography keeps a moment for ever. | Light is its most important tool.
poetry | Poetry says much in few words. | Its sound matters as much as its sense.
history | History tells how people lived before us. | We can learn from its mistakes.
geography | Geography studies places and the people in them. | Maps are its first tool.
mathematics | Mathematics is the study of patterns. | Its proofs are true for ever.
medicine | Medicine protects and restores our health. | It saves millions of lives.
electricity | Electricity lights our homes and streets. | It travels through copper wires.
batteries | Batteries store energy for later. | Phones and cars depend on them.
the telephone | The telephone carries voices over long distances. | It changed how families keep in touch.
robots | Robots do the same task without getting tired. | They build cars and clean floors.
spiders | Spiders catch insects in their webs. | Most of them are harmless.
butterflies | Butterflies begin as hungry caterpillars. | Their wings are covered in tiny scales.
penguins | Penguins cannot fly but swim very well. | They live in the cold south.
elephants | Elephants are clever and have long memories. | They live in family groups.
tigers | Tigers are strong cats with striped coats. | Few of them are left in the wild.
roses | Roses smell sweet and have sharp thorns. | They are a sign of love.
autumn | Autumn turns the leaves red and gold. | It is the season of harvest.
"""

UNSEEN_TOPICS = """
umbrellas | the harbour | candles | chocolate | earthquakes | sailing | the violin | sheep | museums | pencils |
tomatoes | the alphabet | wolves | airports | soap | spring | glaciers | the neighbours | board games | onions |
lightning | turtles | newspapers | bakeries | satellites | knitting | the post office | gold | fountains | patience
"""

VALIDATION_TOPICS = """
clouds | pottery | tennis | camels | castles | buttons | oranges | the circus | pigeons | tunnels |
zebras | carpets | skiing | mushrooms | the radio | ladders | crocodiles | garlic | waterfalls | envelopes
"""

ASKS = ("Write about {}.", "Tell me something about {}.", "Describe {}.", "What can you say about {}?")
UNSEEN_ASKS = ("Please share a thought on {}.", "I would like to hear about {}.")

FIRST_WORDS = ("Once", "Today", "Imagine", "Sometimes", "When", "There", "Many", "Every")
LAST_WORDS = ("the end", "that is all", "thank you", "good night", "see you soon")
WORDS = ("people", "old", "small", "light", "morning", "friend", "simple", "quiet", "strong", "year", "home", "learn")
FORBIDDEN = ("and", "is", "are", "the", "of", "very", "can", "it")
LETTERS = "zkxvbw"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of instruction: its check, and the wordings of training and of the held-out group."""

    check: Check
    wordings: tuple[str, ...]
    unseen: tuple[str, ...] = ()


def trained(draw: random.Random) -> dict[str, Kind]:
    """The kinds of training, each with arguments drawn anew."""
    few, most = draw.choice((10, 12, 15, 20)), draw.choice((1, 2))
    one, other = draw.sample(WORDS, 2)
    first, forbidden = draw.choice(FIRST_WORDS), draw.choice(FORBIDDEN)
    sentences = "one sentence" if most == 1 else f"{most} sentences"
    return {
        "one word": Kind(
            {"rule": "one_word"},
            (
                "Answer with one word only.",
                "Use a single word.",
                "Your answer must be exactly one word.",
                "One word, no more.",
            ),
            ("Reply with just one word and nothing else.", "I want a lone word back."),
        ),
        "few words": Kind(
            {"rule": "length_constraints:number_words", "relation": "less than", "num_words": few},
            (
                f"Use fewer than {few} words.",
                f"Answer in less than {few} words.",
                f"Keep it under {few} words.",
                f"Your answer must have fewer than {few} words.",
            ),
            (f"Do not reach {few} words.", f"Stay below {few} words in total."),
        ),
        "few sentences": Kind(
            {"rule": "max_sentences", "count": most},
            (
                f"Use at most {sentences}.",
                f"Answer in no more than {sentences}.",
                f"Write {sentences} at most.",
                f"Do not write more than {sentences}.",
            ),
            (f"The limit is {sentences}.", f"Stop after {sentences}."),
        ),
        "first word": Kind(
            {"rule": "starts_with", "phrase": first},
            (
                f'Start with the word "{first}".',
                f'The first word must be "{first}".',
                f'Begin your answer with "{first}".',
                f'Let "{first}" be the first word.',
            ),
            (f'Open with "{first}".', f'Nothing may stand before "{first}", which comes first.'),
        ),
        "keywords": Kind(
            {"rule": "keywords:existence", "keywords": [one, other]},
            (
                f'Use the words "{one}" and "{other}".',
                f'Include the words "{one}" and "{other}".',
                f'Your answer must contain "{one}" and "{other}".',
                f'Both "{one}" and "{other}" must appear.',
            ),
            (f'Make sure that I can find "{one}" and "{other}" in it.', f'Work "{one}" and "{other}" in somewhere.'),
        ),
        "forbidden word": Kind(
            {"rule": "keywords:forbidden_words", "forbidden_words": [forbidden]},
            (
                f'Do not use the word "{forbidden}".',
                f'Avoid the word "{forbidden}".',
                f'The word "{forbidden}" must not appear.',
                f'Never write "{forbidden}".',
            ),
            (f'Leave out the word "{forbidden}".', f'I do not want to see "{forbidden}" in it.'),
        ),
        "no comma": Kind(
            {"rule": "punctuation:no_comma"},
            ("Do not use any commas.", "Use no commas.", "Your answer must not contain a comma.", "Avoid commas."),
            ("Leave every comma out.", "The sign , is forbidden."),
        ),
    }


def untrained(draw: random.Random) -> dict[str, Kind]:
    """The kinds that training never has."""
    letter, word = draw.choice(LETTERS), draw.choice(WORDS)
    times, parts, items = draw.choice((2, 3)), draw.choice((2, 3)), draw.choice((3, 4, 5))
    many, least = draw.choice((25, 30, 35)), draw.choice((3, 4))
    bullets, last = draw.choice((2, 3, 4)), draw.choice(LAST_WORDS)
    frequency = {"relation": "at least", "frequency": times}
    letters = {"letter": letter, "let_relation": "at least", "let_frequency": times}
    return {
        "postscript": Kind(
            {"rule": "detectable_content:postscript", "postscript_marker": "P.S."},
            ("At the end, add a postscript that starts with P.S.",),
        ),
        "highlights": Kind(
            {"rule": "detectable_format:number_highlighted_sections", "num_highlights": parts},
            (f"Highlight at least {parts} parts with markdown, such as *highlighted part*.",),
        ),
        "placeholders": Kind(
            {"rule": "detectable_content:number_placeholders", "num_placeholders": parts},
            (f"Use at least {parts} placeholders in square brackets, such as [name].",),
        ),
        "JSON": Kind({"rule": "detectable_format:json_format"}, ("Your whole answer must be valid JSON.",)),
        "letter": Kind(
            {"rule": "keywords:letter_frequency", **letters}, (f'Use the letter "{letter}" at least {times} times.',)
        ),
        "repeated word": Kind(
            {"rule": "keywords:frequency", "keyword": word, **frequency},
            (f'Use the word "{word}" at least {times} times.',),
        ),
        "paragraphs": Kind(
            {"rule": "length_constraints:number_paragraphs", "num_paragraphs": parts},
            (f"Write {parts} paragraphs. Separate paragraphs with the markdown divider: ***",),
        ),
        "sections": Kind(
            {"rule": "detectable_format:multiple_sections", "section_spliter": "Part", "num_sections": parts},
            (f"Write {parts} parts. Mark the beginning of each with Part and its number, such as: Part 1",),
        ),
        "capital letters": Kind(
            {"rule": "uppercase"},
            (
                "Write in capital letters only.",
                "Use only capital letters.",
                "Your whole answer must be in capitals.",
                "All letters must be upper case.",
            ),
        ),
        "quotation": Kind(
            {"rule": "startend:quotation"},
            (
                "Put your whole answer in double quotation marks.",
                "Wrap your answer in double quotes.",
                "Your answer must stand between double quotation marks.",
                "Begin and end with a double quotation mark.",
            ),
        ),
        "comma list": Kind(
            {"rule": "comma_list", "count": items},
            (
                f"Answer with {items} short items between commas on one line.",
                f"Give only {items} words or short phrases, separated by commas.",
                f"Write a list of {items} short items with commas between them and nothing else.",
                f"Your answer must be {items} short items on one line, separated by commas.",
            ),
        ),
        "many words": Kind(
            {"rule": "length_constraints:number_words", "relation": "at least", "num_words": many},
            (
                f"Use at least {many} words.",
                f"Answer with {many} words or more.",
                f"Your answer must have at least {many} words.",
                f"Write no fewer than {many} words.",
            ),
        ),
        "many sentences": Kind(
            {"rule": "min_sentences", "count": least},
            (
                f"Use at least {least} sentences.",
                f"Write {least} sentences or more.",
                f"Your answer must have at least {least} sentences.",
                f"Give no fewer than {least} sentences.",
            ),
        ),
        "small letters": Kind(
            {"rule": "lowercase"},
            (
                "Write in small letters only.",
                "Use only lower case letters.",
                "Your whole answer must be in lower case.",
                "Do not use any capital letters.",
            ),
        ),
        "last words": Kind(
            {"rule": "startend:end_checker", "end_phrase": last},
            (
                f'End with the words "{last}".',
                f'The last words must be "{last}".',
                f'Finish your answer with "{last}".',
                f'Let "{last}" be the last words.',
            ),
        ),
        "bullet points": Kind(
            {"rule": "detectable_format:number_bullet_lists", "num_bullets": bullets},
            (
                f"Answer with exactly {bullets} bullet points. Start each with *.",
                f"Give exactly {bullets} bullet points, each on a line that starts with *.",
                f"Write {bullets} bullet points, no more and no fewer. Use * for each.",
                f"Your answer must be a list of {bullets} bullet points such as: * This is a point.",
            ),
        ),
        "title": Kind(
            {"rule": "detectable_format:title"},
            (
                "Give it a title in double angular brackets, such as <<my title>>.",
                "Add a title, wrapped in double angular brackets like <<title>>.",
                "Your answer must have a title that looks like <<this>>.",
                "Begin with a title between << and >>.",
            ),
        ),
        "two answers": Kind(
            {"rule": "combination:two_responses"}, ("Give two different answers, separated by six asterisks: ******",)
        ),
    }


# Of these pairs one instruction cannot be obeyed with the other, or obeys it by itself.
_LENGTHS = ("one word", "few words", "few sentences")
APART = {
    *combinations(_LENGTHS, 2),
    *(("one word", name) for name in ("first word", "keywords", "forbidden word", "no comma")),
}


def gold(topic: str, first: str, second: str, kind: str, check: Check) -> str:
    """An answer that obeys, made of the topic's two sentences."""
    rest = (
        f"Many people know {topic} from their own life.",
        f"There is always more to learn about {topic}.",
        "A short text can only be a beginning.",
        "Look around and you will find more.",
    )
    match kind:
        case "one word":
            return re.findall(r"\w+", topic)[-1].capitalize()
        case "few words" | "few sentences":
            return min(first, second, key=lambda text: len(text.split()))
        case "first word":
            return f"{check['phrase']}, one more word about {topic}. {first}"
        case "keywords":
            one, other = check["keywords"]  # type: ignore[misc]
            return f"{first} Two words come to mind: {one} and {other}."
        case "forbidden word":
            allowed = (
                text
                for text in (first, second, *rest)
                if check["forbidden_words"][0] not in re.findall(r"\w+", text.lower())
            )  # type: ignore[index]
            return next(allowed)
        case "no comma":
            return f"{first} {second}".replace(",", " and")
    raise AssertionError(kind)


def rows() -> Iterator[Row]:
    """All rows, training first."""
    draw = random.Random(20261130)
    told = [tuple(part.strip() for part in line.split("|")) for line in TOPICS.strip().splitlines()]
    unseen, validation = (
        [topic.strip() for topic in topics.replace("\n", " ").split("|")]
        for topics in (UNSEEN_TOPICS, VALIDATION_TOPICS)
    )
    yield from _numbered("train", _alternating(_train(draw, told)))
    groups: dict[str, list[Row]] = {}
    for row in _held_out(draw, unseen):
        groups.setdefault(str(row["group"]), []).append(row)
    queues = {name: iter(_alternating(found)) for name, found in groups.items()}
    yield from _numbered("held_out", list(_in_turns(queues)))
    yield from _numbered("validation", _alternating(_validation(draw, validation)))


def _train(draw: random.Random, told: list[tuple[str, ...]]) -> Iterator[Row]:
    wordings = cycle(range(4))
    for topic, first, second in told:
        asks = draw.sample(ASKS, TWICE)
        for ask in asks:
            for name, kind in trained(draw).items():
                answer = gold(topic, first, second, name, kind.check)
                row = _row("train", topic, ask.format(topic), [(name, kind.check, kind.wordings[next(wordings)])])
                yield {**row, "gold": answer}


def _held_out(draw: random.Random, unseen: list[str]) -> Iterator[Row]:
    for topic in unseen:
        kinds = trained(draw)
        for name, kind in kinds.items():
            ask, other = (draw.choice(asks).format(topic) for asks in (ASKS, UNSEEN_ASKS))
            yield _row("unseen topics", topic, ask, [(name, kind.check, draw.choice(kind.wordings))])
            yield _row("unseen wordings", topic, other, [(name, kind.check, draw.choice(kind.unseen))])
        for name, kind in untrained(draw).items():
            ask = draw.choice(ASKS).format(topic)
            yield _row("unseen kinds", topic, ask, [(name, kind.check, draw.choice(kind.wordings))])
        pairs = [pair for pair in combinations(kinds, 2) if pair not in APART and pair[::-1] not in APART]
        for pair in draw.sample(pairs, PAIRS // len(unseen)):
            ask = draw.choice(ASKS).format(topic)
            both = [(name, kinds[name].check, draw.choice(kinds[name].wordings)) for name in pair]
            yield _row("two instructions", topic, ask, both)


def _validation(draw: random.Random, topics: list[str]) -> Iterator[Row]:
    for topic in topics:
        for name, kind in trained(draw).items():
            ask = draw.choice(ASKS).format(topic)
            yield _row("validation", topic, ask, [(name, kind.check, draw.choice(kind.wordings))])


def _row(group: str, topic: str, ask: str, instructions: list[tuple[str, Check, str]]) -> Row:
    prompt = " ".join((ask, *(wording for _, _, wording in instructions)))
    kind = " + ".join(name for name, _, _ in instructions)
    return {
        "group": group,
        "kind": kind,
        "topic": topic,
        "prompt": prompt,
        "check": [check for _, check, _ in instructions],
    }


def _alternating(found: Iterator[Row] | list[Row]) -> list[Row]:
    """The rows in an order in which each kind comes once before any comes again, and topics vary."""
    by_kind: dict[str, list[Row]] = {}
    for row in found:
        by_kind.setdefault(str(row["kind"]), []).append(row)
    draw = random.Random(len(by_kind))
    for same in by_kind.values():
        draw.shuffle(same)
    return [row for batch in zip_longest(*by_kind.values()) for row in batch if row]


def _in_turns(queues: dict[str, Iterator[Row]]) -> Iterator[Row]:
    """Rows of the groups in the order of TURNS; a group that has come to its end is passed over."""
    left = set(queues)
    for name in cycle(TURNS):
        if not left:
            return
        if row := next(queues[name], None):
            yield row
        else:
            left.discard(name)


def _numbered(split: str, found: list[Row]) -> Iterator[Row]:
    for number, row in enumerate(found, 1):
        yield {"id": f"{split}-{number:04}", "split": split, **row}


def text() -> str:
    """The file's content."""
    return "".join(json.dumps(row) + "\n" for row in rows())


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
