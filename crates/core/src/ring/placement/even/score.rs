//! The score of a ring, kept up to date while virtual servers of one member come and go.

use crate::ring::{Member, Slot};

/// Fixed point of 1/w where weights differ.
const UNIT: i64 = 1 << 16;

/// A ring and its score, relative to the ring that it was made from.
#[derive(Clone, Debug)]
pub(super) struct Score {
    slots: u32,
    /// Virtual servers in clockwise order: slot and owner.
    points: Vec<(Slot, u16)>,
    /// The member whose virtual servers come and go.
    own: usize,
    members: usize,
    /// By member: the inverse of its weight.
    inverse: Vec<i64>,
    /// By member: slots that it owns.
    owned: Vec<i64>,
    /// By giver and taker: what falls to the taker when the giver leaves.
    falls: Vec<i64>,
    /// By taker: the sum of `falls`.
    gains: Vec<i64>,
    /// A of the formula.
    evenness: i64,
    value: i64,
}

/// An arc, and what surrounds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// The slot of the virtual server before it.
    before: Slot,
    length: i64,
    /// Who owns it: the virtual server that ends it.
    owner: usize,
    /// Who owns the arc before it.
    previous: usize,
    /// Slots of `previous` in a row up to here.
    run: i64,
    /// The next other owner clockwise.
    heir: usize,
}

/// J as a function of how far into an arc a virtual server is put: c0 + c1·x + c2·x².
#[derive(Clone, Copy, Debug, Default)]
struct Quadratic {
    c0: i64,
    c1: i64,
    c2: i64,
}

impl Quadratic {
    /// v·(g + α + βx)² - v·g²
    #[inline]
    fn square(&mut self, v: i64, g: i64, alpha: i64, beta: i64) {
        self.c0 += v * alpha * (2 * g + alpha);
        self.c1 += 2 * v * beta * (g + alpha);
        self.c2 += v * beta * beta;
    }

    /// v·(A·s² + 2·s·i) with s → s + βx and i → i + α + γx, less its value before.
    #[inline]
    fn member(&mut self, v: i64, weight: i64, (s, beta): (i64, i64), i: i64, change: (i64, i64)) {
        let (alpha, gamma) = change;
        self.square(v * weight, s, 0, beta);
        self.c0 += 2 * v * s * alpha;
        self.c1 += 2 * v * (s * gamma + beta * (i + alpha));
        self.c2 += 2 * v * beta * gamma;
    }

    #[inline]
    fn at(&self, x: i64) -> i64 {
        self.c0 + x * (self.c1 + x * self.c2)
    }

    /// The x of 1 to `most` with the lowest value; the lower of equals.
    #[inline]
    fn lowest(&self, most: i64) -> (i64, i64) {
        if self.c2 > 0 {
            let twice = 2 * self.c2;
            let x = (-self.c1 + self.c2).div_euclid(twice).clamp(1, most);
            return (x, self.at(x));
        }
        let (first, last) = (self.at(1), self.at(most));
        if last < first { (most, last) } else { (1, first) }
    }
}

impl Score {
    pub(super) fn new(slots: u32, members: &[Member], own: usize) -> Self {
        let count = members.len();
        let mut points: Vec<(Slot, u16)> = members
            .iter()
            .enumerate()
            .flat_map(|(at, member)| member.positions.iter().map(move |&slot| (slot, at as u16)))
            .collect();
        points.sort_unstable();
        let is_equal = members.iter().all(|member| member.weight == members[own].weight);
        let inverse = |member: &Member| if is_equal { 1 } else { UNIT / i64::from(member.weight) };
        let n = count as i64;
        let mut score = Self {
            slots,
            points,
            own,
            members: count,
            inverse: members.iter().map(|member| inverse(member).max(1)).collect(),
            owned: vec![0; count],
            falls: vec![0; count * count],
            gains: vec![0; count],
            evenness: 2 * n + (n - 1),
            value: 0,
        };
        if score.has_others() {
            score.count();
        }
        score
    }

    /// Whether virtual servers of at least two members are there: with one owner alone nothing can
    /// fall to anybody.
    pub(super) fn has_others(&self) -> bool {
        self.points.iter().any(|&(_, owner)| Some(owner) != self.points.first().map(|p| p.1))
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    pub(super) fn own_slots(&self) -> i64 {
        self.owned[self.own]
    }

    pub(super) fn value(&self) -> i64 {
        self.value
    }

    fn count(&mut self) {
        let mut gaps = Vec::with_capacity(self.points.len());
        self.each_gap(|gap| gaps.push(gap));
        for gap in gaps {
            self.owned[gap.owner] += gap.length;
            self.falls[gap.owner * self.members + gap.heir] += gap.length;
            self.gains[gap.heir] += gap.length;
        }
    }

    /// All arcs, clockwise from a change of owner.
    #[inline]
    fn each_gap(&self, mut visit: impl FnMut(Gap)) {
        let points = &self.points;
        let count = points.len();
        let after = |at: usize| if at + 1 == count { 0 } else { at + 1 };
        let before = |at: usize| if at == 0 { count - 1 } else { at - 1 };
        let Some(first) = (0..count).find(|&at| points[at].1 != points[before(at)].1) else {
            return;
        };
        // The run of the owner before the first arc.
        let mut run = 0;
        let mut at = before(first);
        let previous = points[at].1;
        while points[at].1 == previous {
            run += self.length(before(at), at);
            at = before(at);
        }
        let (mut at, mut previous) = (first, previous);
        let mut heir_at = first;
        for _ in 0..count {
            let owner = points[at].1;
            if points[heir_at].1 == owner {
                while points[heir_at].1 == owner {
                    heir_at = after(heir_at);
                }
            }
            let from = before(at);
            let length = self.length(from, at);
            visit(Gap {
                before: points[from].0,
                length,
                owner: owner.into(),
                previous: previous.into(),
                run,
                heir: points[heir_at].1.into(),
            });
            run = if owner == previous { run + length } else { length };
            previous = owner;
            at = after(at);
        }
    }

    #[inline]
    fn length(&self, from: usize, to: usize) -> i64 {
        let (from, to) = (self.points[from].0, self.points[to].0);
        i64::from(if to > from { to - from } else { to + self.slots - from })
    }

    /// The arc that a slot lies in.
    fn gap_at(&self, slot: Slot) -> Gap {
        let points = &self.points;
        let count = points.len();
        let before = |at: usize| if at == 0 { count - 1 } else { at - 1 };
        let at = points.partition_point(|&(point, _)| point < slot) % count;
        let from = before(at);
        let (owner, previous) = (points[at].1, points[from].1);
        let mut heir_at = at;
        while points[heir_at].1 == owner {
            heir_at = if heir_at + 1 == count { 0 } else { heir_at + 1 };
        }
        let (mut run, mut back) = (0, from);
        while points[back].1 == previous {
            run += self.length(before(back), back);
            back = before(back);
        }
        Gap {
            before: points[from].0,
            length: self.length(from, at),
            owner: owner.into(),
            previous: previous.into(),
            run,
            heir: points[heir_at].1.into(),
        }
    }

    /// What a virtual server x slots into an arc changes.
    #[inline]
    fn change(&self, gap: &Gap) -> Quadratic {
        let mut change = Quadratic::default();
        let (n, o, z, p, run) = (self.own, gap.owner, gap.heir, gap.previous, gap.run);
        if o == n {
            return change;
        }
        let v = &self.inverse;
        let falls = |giver: usize, taker: usize| self.falls[giver * self.members + taker];
        change.square(v[o], falls(n, o), 0, 1);
        // What becomes of in(o), in(n) and in(z): (constant, per x).
        let (mut in_o, mut in_n, mut in_z) = ((0, 1), (0, 0), (0, -1));
        if p == o {
            if z == n {
                change.square(v[n], falls(o, n), 0, -1);
            } else {
                change.square(v[z], falls(o, z), -run, -1);
                change.square(v[n], falls(o, n), run, 0);
                in_z.0 = -run;
                in_n.0 = run;
            }
        } else {
            change.square(v[z], falls(o, z), 0, -1);
            if p != n {
                change.square(v[o], falls(p, o), -run, 0);
                change.square(v[n], falls(p, n), run, 0);
                in_o.0 = -run;
                in_n.0 = run;
            }
        }
        if z == n {
            in_n = (in_n.0 + in_z.0, in_n.1 + in_z.1);
        } else {
            change.member(v[z], self.evenness, (self.owned[z], 0), self.gains[z], in_z);
        }
        change.member(v[o], self.evenness, (self.owned[o], -1), self.gains[o], in_o);
        change.member(v[n], self.evenness, (self.owned[n], 1), self.gains[n], in_n);
        change
    }

    /// Where one more virtual server is best, at most `cap` slots into an arc: the slot, its arc,
    /// and by how much the score changes.
    pub(super) fn best(&self, cap: i64) -> Option<(Slot, Gap, i64)> {
        let mut best: Option<(i64, i64, Gap)> = None;
        self.each_gap(|gap| {
            if gap.length < 2 {
                return;
            }
            let (x, change) = if gap.owner == self.own {
                (1, 0)
            } else {
                self.change(&gap).lowest(cap.min(gap.length - 1))
            };
            // The lowest slot of equals, wherever the walk began.
            let is_better = best.as_ref().is_none_or(|(least, at, kept)| {
                change < *least || (change == *least && self.slot(&gap, x) < self.slot(kept, *at))
            });
            if is_better {
                best = Some((change, x, gap));
            }
        });
        best.map(|(change, x, gap)| (self.slot(&gap, x), gap, change))
    }

    #[inline]
    fn slot(&self, gap: &Gap, x: i64) -> Slot {
        let slot = gap.before + x as u32;
        if slot >= self.slots { slot - self.slots } else { slot }
    }

    /// The first free slot at or after a wanted one, and its arc.
    pub(super) fn first_free(&self, wanted: Slot) -> Option<(Slot, Gap)> {
        let is_free =
            |slot: &Slot| self.points.binary_search_by_key(slot, |&(point, _)| point).is_err();
        let slot = (wanted..self.slots).chain(0..wanted).find(is_free)?;
        Some((slot, self.gap_at(slot)))
    }

    /// Puts a virtual server on a free slot of an arc.
    pub(super) fn put(&mut self, slot: Slot, gap: &Gap) {
        self.apply(slot, gap, 1);
        let at = self.points.partition_point(|&(point, _)| point < slot);
        self.points.insert(at, (slot, self.own as u16));
    }

    /// Takes an own virtual server away: the arc that is then there, and by how much the score
    /// would change if it were put back.
    pub(super) fn lift(&mut self, slot: Slot) -> (Gap, i64) {
        let at = self.points.partition_point(|&(point, _)| point < slot);
        debug_assert_eq!(self.points[at], (slot, self.own as u16), "only own ones are lifted");
        self.points.remove(at);
        let gap = self.gap_at(slot);
        let here = self.apply(slot, &gap, -1);
        (gap, here)
    }

    /// Adds (or, with sign -1, subtracts) what a virtual server in an arc changes.
    fn apply(&mut self, slot: Slot, gap: &Gap, sign: i64) -> i64 {
        let (n, o, z, p) = (self.own, gap.owner, gap.heir, gap.previous);
        if o == n {
            return 0;
        }
        let x = i64::from((slot + self.slots - gap.before) % self.slots);
        let (run, x_signed) = (gap.run * sign, x * sign);
        let mut change = 0;
        if sign > 0 {
            change = self.change(gap).at(x);
            self.value += change;
        }
        self.owned[o] -= x_signed;
        self.owned[n] += x_signed;
        self.fall(n, o, x_signed);
        self.fall(o, z, -x_signed);
        if p == o {
            self.fall(o, z, -run);
            self.fall(o, n, run);
        } else if p != n {
            self.fall(p, o, -run);
            self.fall(p, n, run);
        }
        if sign < 0 {
            // Now that it is away: what putting it back would change.
            change = self.change(gap).at(x);
            self.value -= change;
        }
        change
    }

    #[inline]
    fn fall(&mut self, giver: usize, taker: usize, slots: i64) {
        self.falls[giver * self.members + taker] += slots;
        self.gains[taker] += slots;
    }
}
