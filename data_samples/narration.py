"""What is said over a plan: steps named in synonyms, early or late by seconds, between chatter that fits no picture.

The lag between the moment a step is spoken of and the moment it is seen is normal, mean 0, `lag_sd` seconds, clipped to
10 s; it is a parameter, so that captions with another lag can be made for the same videos without drawing them again.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vocabulary import ACTIONS, CHATTER, INTROS, LEADS, LEADS_ING, THINGS
from world import Plan, Step

from vclip.data.captions import Captions, deduplicate

LAG_SD, LAG_LIMIT = 4.0, 10.0
SECONDS_PER_WORD = 0.34
WORDS_PER_LINE = 7
SAID_AGAIN = 0.5  # how often a step is spoken of twice
CHATTER_IN_PAUSE = 0.7


@dataclass
class Utterance:
    """One sentence; `step` is the index of the step it speaks of, -1 for chatter."""

    start: float
    text: str
    step: int = -1

    @property
    def lasts(self) -> float:
        return len(self.text.split()) * SECONDS_PER_WORD


def _pick(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]


def step_sentence(step: Step, rng: np.random.Generator) -> str:
    """An imperative sentence as an annotator writes it: "dice the aubergine into small pieces"."""
    action = ACTIONS[step.action]
    tail = " " + _pick(rng, action.tails) if rng.random() < 0.6 else ""
    return f"{_pick(rng, action.verbs)[0]} the {_pick(rng, THINGS[step.thing][1])}{tail}"


def _spoken(step: Step, again: bool, rng: np.random.Generator) -> str:
    """A step as the narrator puts it; when said again, often without the thing or without the verb."""
    action, thing = ACTIONS[step.action], _pick(rng, THINGS[step.thing][1])
    verb, verbing = _pick(rng, action.verbs)
    tail = " " + _pick(rng, action.tails) if rng.random() < 0.35 else ""
    shape = rng.random()
    if again and shape < 0.25:
        return f"just keep {verbing} it{tail}"
    if again and shape < 0.5:
        return f"look at that {thing} it's coming along nicely"
    if shape > 0.72:
        return f"{_pick(rng, LEADS_ING)} {verbing} the {thing}{tail}"
    return f"{_pick(rng, LEADS)} {verb} the {thing}{tail}"


def narrate(plan: Plan, lag_sd: float = LAG_SD, seed: int = 0) -> list[Utterance]:
    """Utterances in order of time, none overlapping; the words do not depend on `lag_sd`, only their times and order.

    A step is first wanted at a moment drawn uniformly within it plus the lag; where two sentences want the same moment
    the later one waits, so that the narrated times spread a little more than the lag alone.
    """
    rng = np.random.default_rng([plan.seed, 7, seed])
    said = [Utterance(0.3, _pick(rng, INTROS).format(topic=plan.topic))]
    for i, step in enumerate(plan.steps):
        for again in (False, True):
            within, lag, skip = rng.random(), rng.standard_normal(), rng.random() > SAID_AGAIN
            text = _spoken(step, again, rng)
            if again and skip:
                continue
            moment = step.start + within * (step.end - step.start - 2)
            moment += float(np.clip(lag_sd * lag, -LAG_LIMIT, LAG_LIMIT))
            said.append(Utterance(min(max(moment, 1.0), plan.seconds - 2.0), text, i))
    said = _spread(said, plan.seconds)
    chatter = list(rng.permutation(CHATTER))
    for before, after in zip(list(said), [*said[1:], Utterance(plan.seconds, "")], strict=True):
        pause = after.start - before.start - before.lasts
        text = str(chatter.pop())
        if rng.random() < CHATTER_IN_PAUSE and pause > len(text.split()) * SECONDS_PER_WORD + 0.6:
            said.append(Utterance(before.start + before.lasts + 0.3, text))
    return sorted(said, key=lambda u: u.start)


def _spread(said: list[Utterance], seconds: int) -> list[Utterance]:
    """Move utterances apart, later ones waiting, then back so that the last ends with the video."""
    said, clock, limit = sorted(said, key=lambda u: u.start), 0.0, float(seconds)
    for utterance in said:
        utterance.start = max(utterance.start, clock)
        clock = utterance.start + utterance.lasts + 0.1
    for utterance in reversed(said):
        utterance.start = max(0.0, min(utterance.start, limit - utterance.lasts))
        limit = utterance.start - 0.01
    return said


def lines(said: list[Utterance]) -> list[tuple[float, float, list[str]]]:
    """(start, end, words) of caption lines of at most seven words, times in whole milliseconds."""
    out = []
    for utterance in said:
        words = utterance.text.split()
        n = -(-len(words) // WORDS_PER_LINE)
        for k in range(n):
            first, last = k * len(words) // n, (k + 1) * len(words) // n
            times = (utterance.start + first * SECONDS_PER_WORD, utterance.start + last * SECONDS_PER_WORD)
            out.append((round(times[0], 3), round(times[1], 3), words[first:last]))
    return out


def rolling(said: list[Utterance]) -> Captions:
    """The captions as YouTube rolls them: each cue repeats the line before, a 10 ms cue shows the line alone."""
    rows, previous = [], ""
    for start, end, words in lines(said):
        text = " ".join(words)
        rows += [(start, round(end - 0.01, 3), f"{previous} {text}".strip()), (round(end - 0.01, 3), end, text)]
        previous = text
    return Captions(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), [r[2] for r in rows])


def captions(said: list[Utterance]) -> Captions:
    """The plain captions that go into the corpus."""
    return deduplicate(rolling(said))


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:06.3f}"


def write_vtt(path: Path, said: list[Utterance]) -> None:
    """`rolling` as a .vtt file with a time before each word, in the form of YouTube's automatic captions."""
    out, previous = ["WEBVTT", "Kind: captions", "Language: en", ""], " "
    for start, end, words in lines(said):
        step = (end - start) / len(words)
        tagged = words[0] + "".join(f"<{_clock(start + i * step)}><c> {word}</c>" for i, word in enumerate(words) if i)
        out += [f"{_clock(start)} --> {_clock(end - 0.01)} align:start position:0%", previous, tagged, ""]
        previous = " ".join(words)
        out += [f"{_clock(end - 0.01)} --> {_clock(end)} align:start position:0%", previous, " ", ""]
    path.write_text("\n".join(out), encoding="utf-8")
