"""Traffic of small loop nests by simulation of every step with sets of words, no formulas."""

import itertools
from collections import Counter

import numpy as np

from hwdse.specs.hardware.accelerator import OPERANDS
from hwdse.workload.loops.operators import DIMS, RELEVANT


class Walk:
    """One nest with integer bounds; `counts` maps (memory, kind, operand) to words."""

    def __init__(self, nest, strides=(1, 1), dilations=(1, 1), halo="kept"):
        self.strides, self.dilations, self.halo = strides, dilations, halo
        self.tiers = nest.tiers
        self.temporal = np.asarray(nest.temporal).astype(int)
        self.spatial = np.asarray(nest.spatial).astype(int)
        self.position = np.asarray(nest.position)
        self.counts = Counter()
        for operand in OPERANDS:
            holders = [i for i, tier in enumerate(self.tiers) if operand in tier.keeps]
            for parent, child in zip(holders, [*holders[1:], None], strict=True):
                self._walk_edge(operand, parent, child)
        self.cycles = int(np.prod(self.temporal))

    def _tile(self, tier):
        return np.prod(self.temporal[tier:] * self.spatial[tier:], axis=0)

    def _loops(self, end):
        """(tier, dimension, bound) of the temporal loops outside tier `end`, outermost first."""
        found = []
        for tier in range(end):
            for dim in np.argsort(self.position[tier], kind="stable"):
                if self.temporal[tier, dim] > 1:
                    found.append((tier, int(dim), int(self.temporal[tier, dim])))
        return found

    def _unit(self, tier, dim):
        """Extent inside the temporal loop of a tier."""
        return int(self.spatial[tier, dim] * self._tile(tier + 1)[dim])

    def _instances(self, begin, end):
        """Offsets in each dimension of all instances unrolled between two tiers."""
        axes = [(t, d, self.spatial[t, d]) for t in range(begin, end) for d in range(len(DIMS))]
        for indices in itertools.product(*(range(bound) for _, _, bound in axes)):
            start = np.zeros(len(DIMS), int)
            for (tier, dim, _), index in zip(axes, indices, strict=True):
                start[dim] += index * int(self._tile(tier + 1)[dim])
            yield indices, start

    def _words(self, operand, start, size):
        """Words of a tile, gaps included."""
        if operand != "inputs":
            ranges = [
                range(start[i], start[i] + size[i])
                for i, letter in enumerate(DIMS)
                if letter in RELEVANT[operand]
            ]
            return set(itertools.product(*ranges))
        first, last = self._corner(start), self._corner(start + size - 1)
        return set(itertools.product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))))

    def _corner(self, at):
        at = dict(zip(DIMS, (int(x) for x in at), strict=True))
        row = at["P"] * self.strides[0] + at["R"] * self.dilations[0]
        col = at["Q"] * self.strides[1] + at["S"] * self.dilations[1]
        return row, col, at["C"], at["N"]

    def _walk_edge(self, operand, parent, child):
        end = len(self.tiers) if child is None else child
        size = np.ones(len(DIMS), int) if child is None else self._tile(child)
        loops = self._loops(end)
        slide = self._slide(loops)
        seen, before = {}, {}
        for indices in itertools.product(*(range(bound) for _, _, bound in loops)):
            start = np.zeros(len(DIMS), int)
            for (tier, dim, _), index in zip(loops, indices, strict=True):
                start[dim] += index * self._unit(tier, dim)
            for outer, far in self._instances(0, parent):
                sent = []
                for inner, near in self._instances(parent, end):
                    at = start + far + near
                    words = self._words(operand, at, size)
                    instance = (outer, inner)
                    if child is not None:
                        words = self._new(operand, words, at, before.get(instance), slide)
                        before[instance] = (at, self._words(operand, at, size))
                    sent.append(words)
                self._count(operand, parent, child, sent, seen.setdefault(outer, set()))
        used = len(self._words(operand, np.zeros(len(DIMS), int), self._tile(parent)))
        num_instances = int(np.prod(self.spatial[:parent]))
        self.counts[self.tiers[parent].memory, "used", operand] += used * num_instances

    def _slide(self, loops):
        """Shift of the inputs in a step of the innermost loop."""
        step = np.zeros(len(DIMS), int)
        if loops:
            tier, dim, _ = loops[-1]
            step[dim] = self._unit(tier, dim)
        return self._corner(step)

    def _new(self, operand, words, at, before, slide):
        """Words of a tile that are not yet present."""
        if before is None:
            return words
        old_at, old = before
        changes = [
            a != b for a, b, d in zip(at, old_at, DIMS, strict=True) if d in RELEVANT[operand]
        ]
        if not any(changes):
            return set()
        if operand != "inputs" or self.halo == "reloaded":
            return words
        move = tuple(a - b for a, b in zip(self._corner(at), self._corner(old_at), strict=True))
        return words - old if move == slide else words

    def _count(self, operand, parent, child, sent, seen):
        """Count one step: `sent` has the words of each child below one parent."""
        add, memory = self.counts, self.tiers[parent].memory
        below = None if child is None else self.tiers[child].memory
        shared, each = set().union(*sent), sum(len(words) for words in sent)
        if operand != "outputs":
            add[memory, "reads", operand] += len(shared)
            if below is not None:
                add[below, "writes", operand] += each
            return
        returning = len(shared & seen)
        seen |= shared
        add[memory, "writes", operand] += len(shared)
        add[memory, "reads", operand] += returning
        if below is not None:
            add[below, "reads", operand] += each
            add[below, "writes", operand] += returning
