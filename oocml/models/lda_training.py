"""The program of latent Dirichlet allocation: whose turn it is, and what is measured when."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import digamma

from oocml.errors import InputError
from oocml.models import lda_bound, lda_passes
from oocml.models.lda_settings import (
    LOOK_EVERY,
    MOST_OUTSIDE,
    dense_epochs,
    inner_iterations,
    kind_of,
    stores_z,
    support_size,
)
from oocml.models.protocol import Epoch, Epochs, Final, Parts, Problem, Program

LEARN_FROM, LEARN_EVERY, LEARN_STEPS = 10, 5, 3
"""Priors are learnt after epoch 10, when topics have come apart, and every five epochs from there, by three steps."""
ALIKE = 0.75
"""Evenness of responsibilities from which on topics are alike: 0.98 where they begin, 0.1 to 0.4 at an end."""
CHANGE = 1e-3
"""Inner iterations end when gamma changes by less than this on average."""

TOP_WORDS_EVERY = 5
"""Epochs after which topics' words are found anew: whoever reads an epoch in between gets older ones."""

Steps = Generator[Any, Any, Any]


class Training:
    """What a program remembers between its passes; all of it follows from the problem and the results it was sent."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.settings = problem, problem.settings
        self.alpha, self.eta = float(self.settings["alpha"]), float(self.settings["eta"])
        self.tokens = self.log_lengths = 0.0
        self.n_row_blocks = 1
        self.n_used = problem.n_used_features
        self.support = False
        """Whether entries have a support instead of all topics."""
        self.counts = ""
        """Where documents' counts are, where none are kept in gamma; nothing while all topics are alike."""
        self.reached = 0
        """The epoch with which a training was stopped early."""
        self.n_batches = 0
        """Steps of stochastic inference so far."""
        self.evenness = 0.0
        """Entropy of the responsibilities that are kept, when last measured: 1 if all are equal."""

    def program(self, segments: tuple[int, ...]) -> Program:
        """Random responsibilities or topics; then per segment its epochs and the exact bound."""
        found = yield lda_passes.start(self.problem)
        if found["bad"]:
            raise InputError(
                f"{int(found['bad'])} counts are negative or not finite; lda needs counts of words, not weights"
            )
        self.tokens = max(1.0, float(found["tokens"]))
        self.n_row_blocks = int(found["row_blocks"])
        yield lda_passes.keep_priors(self.alpha, self.eta, self.tokens)
        yield lda_passes.words(bound=False)
        if stores_z(self.settings):
            yield from self.measure_lengths("gamma")
        number = 0
        for n_epochs in segments:
            total = number + n_epochs
            while number < total:
                n = yield from self.stretch(number, total)
                if n < 0:  # stopped early: the next segment goes on from there
                    number = self.reached
                    break
                number += n
            bound = yield from self.measure()
            yield lda_passes.top_words()
            yield Final(-bound / self.tokens, extra=self.extra(bound), notice=self.notice(number))

    def notice(self, number: int) -> str:
        """What to say of topics that have not come apart."""
        if self.evenness < ALIKE:
            return ""
        return (
            f"topics are still alike after {number} epochs: words are shared out among all of them; "
            "more epochs are needed, 40 are usual (resume, --epochs +N)"
        )

    def extra(self, bound: float) -> dict[str, float]:
        learnt = {"alpha": self.alpha, "eta": self.eta} if self.settings["learn_priors"] else {}
        return {"elbo": bound / self.tokens, **learnt}

    def stretch(self, number: int, total: int) -> Steps:
        """Epochs from ``number`` + 1 on that are alike; how many, or -1 if training is to stop."""
        kind = kind_of(self.settings, number + 1, total)
        stored = kind in ("esvi", "cvb0") and stores_z(self.settings)
        dense = dense_epochs(self.settings, total)
        if stored and self.may_truncate(number, dense):
            yield from self.truncate_if_settled(number >= dense[1])
        last = number + 1
        while last < total and not self.ends_stretch(last, dense, stored):
            if kind_of(self.settings, last + 1, total) != kind:
                break
            last += 1
        exact = self.is_exact(last)
        yield lda_passes.top_words()  # for whoever reads one of these epochs as the best
        stop = yield from (self.stored if stored else self.batches)(kind, number, last, exact)
        if stop:
            return -1
        if self.learns(last):
            yield from self.learn()
        return last - number

    def is_exact(self, number: int) -> bool:
        every = int(self.settings["exact_every"])
        return every > 0 and number % every == 0

    def learns(self, number: int) -> bool:
        due = number >= LEARN_FROM and (number - LEARN_FROM) % LEARN_EVERY == 0
        return bool(self.settings["learn_priors"]) and due

    def may_truncate(self, number: int, dense: tuple[int, int]) -> bool:
        """Whether supports may be chosen after this epoch."""
        least, most = dense
        due = number >= most or (number >= least and (number - least) % LOOK_EVERY == 0)
        return due and not self.support and support_size(self.settings) > 0

    def ends_stretch(self, number: int, dense: tuple[int, int], stored: bool) -> bool:
        due = number % TOP_WORDS_EVERY == 0 or self.is_exact(number) or self.learns(number)
        return due or (stored and self.may_truncate(number, dense))

    def epoch(self, kind: str, number: int, parts: Parts) -> Epoch:
        """A record with the running objective, whose negative goes by the kind of epoch: each has its own scale."""
        objective = (self.log_lengths - float(parts["log_sum"])) / self.tokens
        return Epoch(number, objective, extra={kind: -objective})

    def end_exactly(self, kind: str, number: int, parts: Parts) -> Steps:
        """The record of an epoch with the exact bound; whether to stop."""
        bound = yield from self.measure()
        extra = {**self.extra(bound), **self.epoch(kind, number, parts).extra}
        return (yield Epoch(number, -bound / self.tokens, exact=True, extra=extra)).stop

    def stored(self, kind: str, number: int, last: int, exact: bool) -> Steps:
        """Epochs number + 1 to last, which need not wait for one another; whether to stop."""
        pass_ = lda_passes.visit(self.problem, kind, self.support)
        n = last - number - exact
        if n:
            done = yield Epochs(pass_, ({},) * n, lambda m, parts: self.epoch(kind, number + 1 + m, parts))
            self.reached = number + len(done)
            if done[-1].get("stopped"):  # ledgers of before it was told have none
                return True
        if exact:
            self.reached = last
            parts = yield pass_
            return (yield from self.end_exactly(kind, last, parts))
        return False

    def truncate_if_settled(self, now: bool) -> Steps:
        """Choose supports if they have nearly all mass already, or if it is time."""
        if not now:
            found = yield lda_passes.outside(self.problem, self.n_row_blocks)
            if found["outside"] > MOST_OUTSIDE * found["tokens"]:
                return
        yield lda_passes.truncate(self.problem)
        self.support = True
        if not (yield from self.shift_to_learnt()):
            yield lda_passes.words(bound=False)

    def shift_to_learnt(self) -> Steps:
        """What is summed anew begins with the settings' priors; whether that had to be changed."""
        alpha, eta = self.alpha - float(self.settings["alpha"]), self.eta - float(self.settings["eta"])
        if alpha or eta:
            yield from self.shift(alpha, eta)
        return bool(alpha or eta)

    def shift(self, alpha: float, eta: float) -> Steps:
        """Add to all gamma and lambda; Lambda is summed anew."""
        documents, words = lda_passes.shifts(alpha, eta)
        yield documents
        yield words

    def measure_lengths(self, array: str) -> Steps:
        """What the running objective counts for the documents' lengths."""
        self.log_lengths = float((yield lda_passes.lengths(self.alpha, array))["log_lengths"])

    def measure(self) -> Steps:
        """The exact bound; Lambda is summed anew on the way."""
        if self.counts:
            return (yield from self.measure_batches())
        recounted = yield lda_passes.recount(self.problem, self.support)
        size = support_size(self.settings) if self.support else int(self.settings["n_topics"])
        self.evenness = float(recounted["entropy"]) / (self.tokens * np.log(size))
        yield from self.shift_to_learnt()
        documents = yield lda_passes.documents(self.alpha)
        words = yield lda_passes.words(bound=True)
        return lda_bound.stored_bound(
            float(recounted["entropy"] + documents["documents"] + words["words"]),
            words["sums"],
            self.eta,
            self.n_used,
        )

    def measure_batches(self) -> Steps:
        if self.n_batches:  # documents of other batches belong to older topics
            yield from self.infer((0, 1))
        pass_ = lda_passes.batch(self.problem, "esvi", self.counts, "", False, alpha=self.alpha)
        log_sum = float((yield pass_)["log_sum"])
        documents = yield lda_passes.batch_documents(self.alpha, self.counts)
        words = yield lda_passes.batch_words(self.eta)
        totals = (yield lda_passes.words(bound=False))["sums"]
        divergence = float(words["words"]) + lda_bound.total_divergence(totals, self.eta, self.n_used)
        return log_sum + float(documents["documents"]) - divergence

    def batches(self, kind: str, number: int, last: int, exact: bool) -> Steps:
        """Epochs that add responsibilities up; whether to stop."""
        for at in range(number + 1, last + 1):
            if kind in ("vi", "svi"):
                parts = yield from self.inferred_epoch(kind)
            else:
                before = self.counts or lda_passes.COUNTS[1]  # which are 0 at first
                other = lda_passes.COUNTS[before == lda_passes.COUNTS[0]]
                parts = yield lda_passes.batch(self.problem, kind, before, other, True, alpha=self.alpha)
                self.counts = other
                yield lda_passes.step(1.0, 1.0, self.eta)
            if not self.log_lengths:
                yield from self.measure_lengths(self.counts)
            if exact and at == last:
                stop = yield from self.end_exactly(kind, at, parts)
            else:
                stop = (yield self.epoch(kind, at, parts)).stop
            if stop:
                self.reached = at
                return True
        return False

    def inferred_epoch(self, kind: str) -> Steps:
        """Documents inferred anew with topics fixed, then topics; by batches of row blocks for stochastic inference."""
        n = min(int(self.settings["batches"]), self.n_row_blocks) if kind == "svi" else 1
        total: dict[str, Any] = {"log_sum": 0.0}
        for i in range(n):
            yield from self.infer((i, n))
            pass_ = lda_passes.batch(self.problem, "esvi", self.counts, "", True, alpha=self.alpha)
            parts = yield replace(pass_, share=(i, n))
            total["log_sum"] += float(parts["log_sum"])
            rho = 1.0
            if kind == "svi":
                self.n_batches += 1
                rho = (self.n_batches + float(self.settings["tau"])) ** -float(self.settings["kappa"])
            tokens = float(parts["tokens"])
            yield lda_passes.step(rho, self.tokens / tokens if tokens else 1.0, self.eta)
        return total

    def infer(self, share: tuple[int, int]) -> Steps:
        """Iterations of documents from equal shares on; leaves them where `counts` says."""
        before, inner = "", inner_iterations(self.settings)
        for m in range(inner):
            into = lda_passes.COUNTS[m % 2]
            pass_ = lda_passes.batch(self.problem, "esvi", before, into, False, alpha=self.alpha, inner=inner)
            parts = yield replace(pass_, share=share)
            before = self.counts = into
            if parts["whole"]:
                break
            if m:
                moved = yield replace(lda_passes.changes(), share=share)
                n_documents = self.problem.n_rows / share[1]  # about
                if moved["change"] < CHANGE * n_documents * int(self.settings["n_topics"]):
                    break

    def learn(self) -> Steps:
        """Fixed points of the priors (Minka 2000) given all counts, and what follows for gamma, lambda and Lambda."""
        n_topics = int(self.settings["n_topics"])
        for _ in range(LEARN_STEPS):
            documents, words = lda_passes.learning(self.alpha, self.eta)
            found = yield documents
            alpha = (
                self.alpha * float(found["numerator"]) / (n_topics * max(float(found["denominator"]), 1e-30))
            )
            found = yield words
            totals = (yield lda_passes.words(bound=False))["sums"]
            weight = float((digamma(totals) - digamma(self.n_used * self.eta)).sum())
            eta = self.eta * float(found["numerator"]) / (self.n_used * max(weight, 1e-30))
            alpha, eta = (float(np.clip(prior, 1e-4, 1e3)) for prior in (alpha, eta))
            yield from self.shift(alpha - self.alpha, eta - self.eta)
            self.alpha, self.eta = alpha, eta
        yield lda_passes.keep_priors(self.alpha, self.eta, self.tokens)
        yield from self.measure_lengths("gamma")
