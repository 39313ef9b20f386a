//! Who gets a request: the current table with this worker's pools, and the policy over it.

use std::{borrow::Cow, cell::RefCell, rc::Rc, sync::Arc};

use rand::{RngExt as _, rngs::StdRng};
use ringmaster_core::{
    balance::{self, Candidates, Policy, RoundRobin, SmoothRoundRobin},
    fleet::ids::InstanceId,
    ring::{MemberIndex, Slot},
};

use super::{config::ProxyConfig, metrics::Counters, pool::Pool, routes::Table};

/// A table with one worker's pools.
pub(crate) struct View {
    pub(crate) table: Arc<Table>,
    /// By member index, like the targets.
    pub(crate) pools: Vec<Option<Rc<Pool>>>,
    /// Those of the members that have one.
    admitted: Candidates,
}

impl View {
    pub(crate) fn new(table: Arc<Table>, pools: Vec<Option<Rc<Pool>>>) -> Self {
        let members = table.routing.ring.members().iter().zip(&pools).zip(0..);
        let admitted = members
            .filter(|((_, pool), _)| pool.is_some())
            .map(|((member, _), index)| (MemberIndex(index), member.weight))
            .collect();
        Self { table, pools, admitted }
    }

    /// Whether anybody is admitted.
    pub(crate) fn has_replica(&self) -> bool {
        !self.admitted.is_empty()
    }

    /// The first admitted of the slot's preference list that was not tried.
    #[inline]
    pub(crate) fn owner(&self, slot: Slot, tried: &[InstanceId]) -> Option<Rc<Pool>> {
        let admitted = |member: MemberIndex| self.untried(member, tried).is_some();
        let member = balance::candidates(&self.table.routing.ring, slot, admitted, &[]).next()?;
        self.pool(member).cloned()
    }

    fn pool(&self, member: MemberIndex) -> Option<&Rc<Pool>> {
        self.pools.get(usize::from(member.0))?.as_ref()
    }

    fn untried(&self, member: MemberIndex, tried: &[InstanceId]) -> Option<&Rc<Pool>> {
        self.pool(member).filter(|pool| !tried.contains(&pool.instance()))
    }

    fn in_flight(&self, member: MemberIndex) -> u64 {
        self.pool(member).map_or(0, |pool| pool.in_flight())
    }

    /// The same with recent failures.
    fn load(&self, member: MemberIndex) -> u64 {
        self.pool(member).map_or(0, |pool| pool.load())
    }

    /// How many failures are enough to leave an instance alone.
    fn enough_failures(&self, pool: &Pool) -> u64 {
        let mut members = self.admitted.as_slice().iter().map(|candidate| candidate.member);
        let is_its = |member: &MemberIndex| {
            self.pool(*member).is_some_and(|its| its.instance() == pool.instance())
        };
        // One that is not in the table any more is picked by nobody.
        members.find(is_its).map_or(0, |member| {
            balance::enough_failures(&self.admitted, member, |other| self.in_flight(other))
        })
    }
}

/// The policy of a worker, with what it remembers.
pub(crate) struct Picker {
    policy: Policy,
    bounded_factor: f64,
    round_robin: RefCell<RoundRobin>,
    smooth: RefCell<SmoothRoundRobin>,
}

impl Picker {
    /// Each worker takes turns of its own; they begin at different members.
    pub(crate) fn new(config: &ProxyConfig, worker: usize) -> Self {
        let before = worker.checked_sub(1).and_then(|before| u16::try_from(before).ok());
        let first_turn = before
            .map_or_else(RoundRobin::default, |before| RoundRobin::after(MemberIndex(before)));
        Self {
            policy: config.policy,
            bounded_factor: config.bounded_factor,
            round_robin: RefCell::new(first_turn),
            smooth: RefCell::default(),
        }
    }

    /// Takes over a new table.
    pub(crate) fn follow(&self, table: &Table) {
        let members = table.routing.ring.members().iter().map(|member| member.id);
        self.smooth.borrow_mut().follow(members);
    }

    /// Whether the key of a request matters.
    pub(crate) fn is_by_key(&self) -> bool {
        self.policy.is_by_key()
    }

    /// Takes in how an attempt ended and after how many microseconds, where the policy goes by that.
    #[inline]
    pub(crate) fn learn(&self, view: &RefCell<Rc<View>>, pool: &Pool, micros: u64, failed: bool) {
        match self.policy {
            Policy::PeakEwma => pool.took(micros, failed),
            Policy::LeastInFlight | Policy::P2c if failed => {
                pool.failed(view.borrow().enough_failures(pool));
            }
            _ => {}
        }
    }

    /// Who is next to get a request of this slot, of those that it has not tried. Instances are
    /// remembered, not members: a member's new instance may be tried although its old one was.
    #[inline]
    pub(crate) fn pick(
        &self,
        view: &View,
        slot: Slot,
        tried: &[InstanceId],
        rng: &RefCell<StdRng>,
        counters: &Counters,
    ) -> Option<Rc<Pool>> {
        match self.policy {
            Policy::Ring => view.owner(slot, tried),
            Policy::Bounded => self.bounded(view, slot, tried, counters),
            _ => self.by_turn_or_load(view, tried, rng),
        }
    }

    #[inline(never)]
    fn bounded(
        &self,
        view: &View,
        slot: Slot,
        tried: &[InstanceId],
        counters: &Counters,
    ) -> Option<Rc<Pool>> {
        let ring = &view.table.routing.ring;
        let admitted = |member: MemberIndex| view.untried(member, tried).is_some();
        let weight = |member: MemberIndex| ring.members()[usize::from(member.0)].weight;
        let order = balance::candidates(ring, slot, admitted, &[]);
        let picked = balance::bounded(
            order.map(|member| (member, weight(member))),
            &view.admitted,
            self.bounded_factor,
            |member| view.in_flight(member),
        )?;
        if picked.is_spill {
            counters.spills.bump();
        }
        view.pool(picked.member).cloned()
    }

    #[inline(never)]
    fn by_turn_or_load(
        &self,
        view: &View,
        tried: &[InstanceId],
        rng: &RefCell<StdRng>,
    ) -> Option<Rc<Pool>> {
        let candidates = match tried {
            [] => Cow::Borrowed(&view.admitted),
            _ => Cow::Owned(view.admitted.only(|member| view.untried(member, tried).is_some())),
        };
        let load = |member: MemberIndex| view.load(member);
        let cost = |member: MemberIndex| view.pool(member).map_or(f64::MAX, |pool| pool.cost());
        let roll = || rng.borrow_mut().random::<u64>();
        let member = match self.policy {
            Policy::RoundRobin => self.round_robin.borrow_mut().next(&candidates),
            Policy::WeightedRoundRobin => self.smooth.borrow_mut().next(&candidates),
            Policy::LeastInFlight => balance::least_in_flight(&candidates, load, roll()),
            Policy::P2c => balance::p2c(&candidates, load, [roll(), roll()]),
            Policy::PeakEwma => balance::peak_ewma(&candidates, cost, [roll(), roll()]),
            // The policies by key do not come here.
            Policy::Random | Policy::Ring | Policy::Bounded => {
                candidates.draw(roll()).map(|candidate| candidate.member)
            }
        }?;
        view.pool(member).cloned()
    }
}
