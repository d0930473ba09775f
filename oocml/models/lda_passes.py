"""The passes of latent Dirichlet allocation, by the names of what they read and write."""

from __future__ import annotations

from typing import Any

from oocml.models.lda_settings import in_batches, stores_z, support_size
from oocml.models.protocol import Pass, Problem, Scratch, derive_seed

START_SEED = 1
COUNTS = ("counts", "counts_next")
"""The two take turns: one has the iteration before."""
LOOKED_AT = 8
"""One document of so many tells whether supports have nearly all mass."""


def start(problem: Problem) -> Pass:
    """Count the tokens, and draw responsibilities if they are kept."""
    params = {"seed": derive_seed(problem.seed, START_SEED)}
    if not stores_z(problem.settings):
        return Pass("start", "tiles", "count", reads=("word",), data=True)
    writes, k = ("gamma", "topic_word", "z"), n_topics(problem)
    return Pass(
        "start", "tiles", "start", reads=("word",), writes=writes, data=True, params=params, per_entry=k
    )


def n_topics(problem: Problem) -> int:
    return int(problem.settings["n_topics"])


def kept(support: bool) -> tuple[str, ...]:
    """Where responsibilities are."""
    return ("z_index", "z_value") if support else ("z",)


def touched(problem: Problem, support: bool) -> int:
    """Topics of an entry that a visit renews."""
    return support_size(problem.settings) if support else n_topics(problem)


def visit(problem: Problem, kind: str, support: bool) -> Pass:
    changed = ("gamma", "topic_word", "totals", "z_value" if support else "z")
    return Pass(
        "visit",
        "tiles",
        "visit",
        reads=(*changed, *kept(support)[:support]),
        writes=changed,
        data=True,
        params={"kind": kind},
        at_once=int(problem.settings["sub_epoch_width"]),
        per_entry=touched(problem, support),
    )


def outside(problem: Problem, n_row_blocks: int) -> Pass:
    """How much of an eighth of the documents' tokens, at random, would be outside of supports."""
    n_blocks = min(LOOKED_AT, n_row_blocks)
    params = {"size": support_size(problem.settings), "every": -(-LOOKED_AT // n_blocks)}
    return Pass("outside", "tiles", "outside", reads=("z",), data=True, params=params, share=(0, n_blocks))


def truncate(problem: Problem) -> Pass:
    return Pass(
        "truncate",
        "tiles",
        "truncate",
        reads=("z",),
        writes=("gamma", "topic_word", "z_index", "z_value"),
        data=True,
        consumes=("z",),
        per_entry=n_topics(problem),
    )


def recount(problem: Problem, support: bool) -> Pass:
    return Pass(
        "recount",
        "tiles",
        "recount",
        reads=kept(support),
        writes=("gamma", "topic_word"),
        data=True,
        per_entry=touched(problem, support),
    )


def lengths(alpha: float, array: str) -> Pass:
    return Pass("lengths", "rows", "lengths", reads=(array,), params={"alpha": alpha, "array": array})


def documents(alpha: float) -> Pass:
    return Pass("documents", "rows", "document_terms", reads=("gamma",), params={"alpha": alpha})


def words(bound: bool) -> Pass:
    """Sum Lambda exactly."""
    params = {"bound": bound}
    return Pass("words", "cols", "word_terms", reads=("topic_word",), writes=("totals",), params=params)


def top_words() -> Pass:
    reads, writes = ("topic_word", "word", "totals"), ("top_words", "top_weights")
    return Pass("top_words", "once", "top_words", reads=reads, writes=writes)


def scratch(problem: Problem, kind: str) -> tuple[Scratch, ...]:
    if kind == "cvb0":
        return ()
    return Scratch("weights", ("cols", n_topics(problem))), Scratch("shift", ("cols",))


def batch(problem: Problem, kind: str, before: str, into: str, words: bool, **params: Any) -> Pass:
    """Responsibilities that follow from ``before`` (nothing: all topics alike), added up ``into`` documents, words."""
    outputs = (*((into,) if into else ()), *(("word_counts",) if words else ()))
    given = {
        "kind": kind,
        "counts": before,
        "fresh": not before,
        "into": into,
        "n_features": problem.n_features,
    }
    return Pass(
        "batch" if words else "infer",
        "tiles",
        "batch" if words or not into else "infer",
        reads=(*((before,) if before else ()), "topic_word", "totals"),
        writes=outputs,
        data=True,
        scratch=scratch(problem, kind),
        params={**given, **params},
        per_entry=n_topics(problem),
    )


def step(rho: float, scale: float, eta: float) -> Pass:
    params = {"rho": rho, "scale": scale, "eta": eta}
    reads, writes = ("topic_word", "word_counts"), ("topic_word", "totals")
    return Pass("step", "cols", "step", reads=reads, writes=writes, params=params)


def changes() -> Pass:
    return Pass("changes", "rows", "changes", reads=COUNTS)


def batch_documents(alpha: float, counts: str) -> Pass:
    params = {"alpha": alpha, "counts": counts}
    return Pass("documents", "rows", "batch_document_terms", reads=(counts,), params=params)


def batch_words(eta: float) -> Pass:
    return Pass("words", "cols", "batch_word_terms", reads=("topic_word",), params={"eta": eta})


def learning(alpha: float, eta: float) -> tuple[Pass, Pass]:
    """Terms of the fixed points of both priors."""
    return (
        Pass("alpha", "rows", "document_priors", reads=("gamma",), params={"alpha": alpha}),
        Pass("eta", "cols", "word_priors", reads=("topic_word",), params={"eta": eta}),
    )


def shifts(alpha: float, eta: float) -> tuple[Pass, Pass]:
    """Add to all gamma, and to all lambda."""
    one, both = ("gamma",), ("topic_word", "totals")
    return (
        Pass("shift", "rows", "shift_documents", reads=one, writes=one, params={"by": alpha}),
        Pass("shift", "cols", "shift_words", reads=both[:1], writes=both, params={"by": eta}),
    )


def keep_priors(alpha: float, eta: float, tokens: float) -> Pass:
    params = {"priors": (alpha, eta, tokens)}
    return Pass("priors", "once", "keep_priors", writes=("priors",), params=params)


def of_epochs(problem: Problem) -> tuple[Pass, ...]:
    """What an epoch may have."""
    settings, found = problem.settings, []
    if stores_z(settings):
        found = [visit(problem, "esvi", support=False)]
    elif in_batches(settings):
        found = [batch(problem, "esvi", "counts", "counts_next", words=True), step(1.0, 1.0, 0.0)]
    return tuple(found)


def others(problem: Problem) -> tuple[Pass, ...]:
    """What else there may be."""
    settings = problem.settings
    found = [start(problem), keep_priors(0.0, 0.0, 0.0), words(bound=True), top_words()]
    if stores_z(settings):
        found += [lengths(0.0, "gamma"), documents(0.0), recount(problem, support=False)]
    if support_size(settings):
        found += [
            outside(problem, 1),
            truncate(problem),
            visit(problem, "esvi", support=True),
            recount(problem, support=True),
        ]
    if settings["learn_priors"]:
        found += [*learning(0.0, 0.0), *shifts(0.0, 0.0)]
    if in_batches(settings):
        for kind in ("cvb0", "esvi"):
            for one, other in (COUNTS, COUNTS[::-1]):
                found += [
                    batch(problem, kind, one, into, words) for into in (other, "") for words in (True, False)
                ]
                found += [batch(problem, kind, "", one, words) for words in (True, False)]
        found += [changes(), step(1.0, 1.0, 0.0), batch_words(0.0)]
        found += [make(0.0, one) for make in (batch_documents, lengths) for one in COUNTS]
    return tuple(found)
