use super::{
    super::{arbiter::Arbiter, ids::ProcessId},
    *,
};
use crate::fleet::ids::Generation;

fn holder(name: &str) -> Holder {
    let admin = format!("{name}:9000").into();
    Holder { id: ProcessId(name.into()), admin, authenticator: None }
}

/// One process and what it asked for last.
struct Process {
    lease: Lease,
    holder: Holder,
    open: Option<Request>,
    changes: Vec<(u64, LeaseChange)>,
    wake_at: Option<Moment>,
}

impl Process {
    fn new(name: &str, known: u64) -> Self {
        let holder = holder(name);
        let lease = Lease::new(holder.clone(), Fence(known), Timing::default(), Moment(0));
        Self { lease, holder, open: None, changes: Vec::new(), wake_at: Some(Moment(0)) }
    }

    fn take(&mut self, step: Step, now: u64) {
        self.changes.extend(step.change.map(|change| (now, change)));
        self.wake_at = step.wake_at;
        if step.send.is_some() {
            self.open = step.send;
        }
    }

    fn tick(&mut self, now: u64) {
        let step = self.lease.tick(Moment(now), 0.5);
        self.take(step, now);
    }

    /// What it has asked for is answered at once.
    fn ask(&mut self, store: &mut Arbiter, now: u64) -> Option<Stored> {
        let request = self.open.take()?;
        let reply = store.ask(&self.holder, &request, Moment(now));
        let step = self.lease.replied(request.id, reply, Moment(now), 0.5);
        let stored = step.stored;
        self.take(step, now);
        stored
    }

    fn fence(&self, now: u64) -> Option<u64> {
        self.lease.may_act(Moment(now)).map(|fence| fence.0)
    }
}

/// A store that was there before.
fn store() -> Arbiter {
    let mut store = Arbiter::new(Timing::default().ttl);
    let first =
        Request { id: RequestId(1), ask: Ask::Acquire { at_least: Fence(0) }, deadline: Moment(0) };
    store.ask(&holder("before"), &first, Moment(0));
    store
}

/// Plays some processes from one moment to another, with a store that answers at once.
fn play(processes: &mut [&mut Process], store: &mut Arbiter, from: u64, to: u64) {
    for now in from..to {
        for process in processes.iter_mut() {
            if process.wake_at.is_some_and(|at| at.0 <= now) {
                process.tick(now);
            }
            process.ask(store, now);
        }
        let acting = processes.iter().filter(|process| process.fence(now).is_some());
        assert!(acting.count() <= 1, "two act at {now}");
    }
}

#[test]
fn the_first_wins_and_the_second_takes_over_when_it_dies() {
    let (mut a, mut b, mut store) = (Process::new("a", 0), Process::new("b", 0), store());
    play(&mut [&mut a, &mut b], &mut store, 2_000, 10_000);
    assert_eq!((a.fence(9_999), b.fence(9_999)), (Some(1), None));
    assert_eq!(a.changes.len(), 1, "{:?}", a.changes);
    assert_eq!(b.lease.holder(Moment(9_999)), Some(&holder("a")));
    assert_eq!(a.lease.holder(Moment(9_999)), Some(&holder("a")));
    // Killed: nothing is heard of it any more.
    play(&mut [&mut b], &mut store, 10_000, 14_000);
    let [(at, LeaseChange::Won(Fence(2)))] = b.changes[..] else { panic!("{:?}", b.changes) };
    assert!((11_500..12_500).contains(&at), "{at}");
    assert_eq!(a.fence(14_000), None, "and if it comes back, it may do nothing");
}

#[test]
fn a_release_is_followed_at_once() {
    let (mut a, mut b, mut store) = (Process::new("a", 0), Process::new("b", 0), store());
    play(&mut [&mut a, &mut b], &mut store, 2_000, 5_000);
    let step = a.lease.release(Moment(5_000));
    let released = LeaseChange::Lost { fence: Fence(1), why: Loss::Released };
    assert_eq!(step.change, Some(released));
    assert_eq!(a.fence(5_000), None, "before the store has even heard of it");
    a.take(step, 5_000);
    a.ask(&mut store, 5_000);
    assert_eq!(a.lease.tick(Moment(5_001), 0.5).send, None, "it wants no other");
    play(&mut [&mut b], &mut store, 5_001, 5_320);
    assert_eq!(b.fence(5_319), Some(2));
    // A renewal of before the release is refused.
    let late =
        Request { id: RequestId(9), ask: Ask::Renew { fence: Fence(1) }, deadline: Moment(0) };
    assert!(matches!(store.ask(&holder("a"), &late, Moment(5_400)), Reply::Refused { .. }));
}

#[test]
fn a_nudge_asks_at_once() {
    let (mut a, mut b, mut store) = (Process::new("a", 0), Process::new("b", 0), store());
    play(&mut [&mut a, &mut b], &mut store, 2_000, 5_000);
    let step = a.lease.release(Moment(5_000));
    a.take(step, 5_000);
    a.ask(&mut store, 5_000);
    let step = b.lease.nudge(Moment(5_001));
    b.take(step, 5_001);
    b.ask(&mut store, 5_001);
    assert_eq!(b.fence(5_001), Some(2));
}

#[test]
fn it_ends_here_before_it_ends_there() {
    let (mut a, mut store) = (Process::new("a", 0), store());
    a.tick(2_000);
    let request = a.open.take().unwrap();
    // The store is reached late, and its reply is late as well.
    let reply = store.ask(&a.holder, &request, Moment(2_300));
    let step = a.lease.replied(request.id, reply, Moment(2_399), 0.5);
    a.take(step, 2_399);
    assert_eq!(a.fence(3_749), Some(1));
    assert_eq!(a.fence(3_750), None, "1,750 ms from before it was sent");
    assert!(store.holder(Moment(4_299)).is_some(), "2,000 ms from when it came");
    a.tick(3_750);
    let (3_750, LeaseChange::Lost { why: Loss::Expired, .. }) = a.changes[1] else {
        panic!("{:?}", a.changes)
    };
}

#[test]
fn lost_renewals_are_sent_again_in_time_and_late_replies_change_nothing() {
    let (mut a, mut store) = (Process::new("a", 0), store());
    a.tick(2_000);
    a.ask(&mut store, 2_000);
    a.tick(2_500);
    let first = a.open.take().expect("a renewal");
    a.tick(2_900);
    let second = a.open.take().expect("another after the deadline of the first");
    let reply = store.ask(&a.holder, &first, Moment(3_000));
    let step = a.lease.replied(first.id, reply, Moment(3_000), 0.5);
    assert_eq!((step.change, a.fence(3_749), a.fence(3_750)), (None, Some(1), None));
    let step = a.lease.replied(second.id, Reply::Failed, Moment(3_001), 0.5);
    let third = step.send.expect("at once, as the last was sent more than 100 ms ago");
    let reply = store.ask(&a.holder, &third, Moment(3_002));
    a.lease.replied(third.id, reply, Moment(3_002), 0.5);
    assert_eq!((a.fence(4_750), a.fence(4_751)), (Some(1), None));
}

#[test]
fn what_was_granted_unheard_is_taken_over_under_another_fence() {
    let (mut a, mut store) = (Process::new("a", 0), store());
    a.tick(2_000);
    let lost = a.open.take().unwrap();
    let Reply::Granted { fence } = store.ask(&a.holder, &lost, Moment(2_000)) else { panic!() };
    play(&mut [&mut a], &mut store, 2_001, 3_000);
    assert_eq!(a.fence(2_999), Some(fence.0 + 1));
    // And the first request, come once more, takes nothing back.
    assert!(matches!(store.ask(&a.holder, &lost, Moment(3_000)), Reply::Refused { .. }));
}

#[test]
fn an_emptied_store_gives_the_lease_back_to_its_holder() {
    let (mut a, mut b, mut store) = (Process::new("a", 0), Process::new("b", 0), store());
    play(&mut [&mut b, &mut a], &mut store, 2_000, 5_000);
    let fence = b.fence(4_999).unwrap();
    let version = |number| Version { fence: Fence(fence), number };
    store.write(version(1), Generation(3), Moment(4_999)).unwrap();
    for emptied in [5_001, 6_250, 7_499] {
        play(&mut [&mut b, &mut a], &mut store, emptied - 1_200, emptied);
        store.empty();
        play(&mut [&mut b, &mut a], &mut store, emptied, emptied + 20);
    }
    play(&mut [&mut b, &mut a], &mut store, 7_519, 12_000);
    assert_eq!((a.changes.len(), b.changes.len()), (0, 1), "the standby did not take it");
    b.tick(13_000);
    let stored = b.ask(&mut store, 13_000).expect("it renews");
    assert_eq!(stored, Stored::default(), "and hears that the state is to be written again");
    store.write(version(2), Generation(3), Moment(13_000)).unwrap();
    // Without a holder it goes to the next after a whole ttl, above all that were given out before.
    store.empty();
    play(&mut [&mut a], &mut store, 14_000, 15_999);
    assert_eq!(a.fence(15_999), None);
    play(&mut [&mut a], &mut store, 15_999, 16_320);
    assert!(a.fence(16_319) > Some(14_000));
}

#[test]
fn writes_count_under_the_highest_fence_only_and_no_generation_goes_back() {
    use super::super::arbiter::Refusal;
    let (mut a, mut b, mut store) = (Process::new("a", 0), Process::new("b", 0), store());
    play(&mut [&mut a], &mut store, 2_000, 3_000);
    let of = |fence, number| Version { fence: Fence(fence), number };
    let now = Moment(2_999);
    assert_eq!(store.write(of(1, 1), Generation(5), now), Ok(()));
    assert_eq!(store.write(of(1, 1), Generation(5), now), Ok(()), "its reply was lost");
    assert_eq!(store.write(of(1, 2), Generation(6), now), Ok(()));
    assert_eq!(store.write(of(1, 1), Generation(6), now), Err(Refusal::Older));
    assert_eq!(store.write(of(1, 3), Generation(5), now), Ok(()), "it was given up");
    assert_eq!(store.write(of(1, 4), Generation(6), now), Ok(()));
    assert_eq!(store.publish(of(1, 4), now), Ok(()));
    assert_eq!(store.publish(of(1, 3), now), Err(Refusal::Older));
    let fenced = Refusal::Fenced(Fence(1));
    assert_eq!(store.write(of(1, 9), Generation(9), Moment(4_600)), Err(fenced), "it has ended");
    play(&mut [&mut b], &mut store, 3_000, 6_000);
    assert_eq!(b.fence(5_999), Some(2));
    let now = Moment(5_999);
    assert_eq!(store.write(of(1, 9), Generation(9), now), Err(fenced));
    assert_eq!(store.publish(of(1, 9), now), Err(fenced));
    assert_eq!(store.publish(of(2, 1), now), Ok(()));
    let back = Refusal::GoesBack { stored: Generation(6), new: Generation(5) };
    assert_eq!(store.write(of(2, 1), Generation(5), now), Err(back));
    assert_eq!(store.write(of(2, 1), Generation(6), now), Ok(()));
    store.empty();
    assert_eq!(store.write(of(2, 1), Generation(6), now), Err(Refusal::Fenced(Fence(2))));
}

#[test]
fn who_hears_of_a_higher_fence_comes_again_above_it() {
    let (mut a, mut store) = (Process::new("a", 0), store());
    play(&mut [&mut a], &mut store, 2_000, 3_000);
    let step = a.lease.heard(Fence(7), Moment(3_000));
    let lost = LeaseChange::Lost { fence: Fence(1), why: Loss::Outranked(Fence(7)) };
    assert_eq!(step.change, Some(lost));
    assert_eq!(a.fence(3_000), None);
    a.take(step, 3_000);
    a.ask(&mut store, 3_000);
    play(&mut [&mut a], &mut store, 3_001, 4_000);
    assert_eq!(a.fence(3_999), Some(8));
}

#[test]
fn a_fence_that_was_given_out_before_is_not_acted_under() {
    let mut a = Process::new("a", 4);
    a.tick(0);
    let request = a.open.take().unwrap();
    let step = a.lease.replied(request.id, Reply::Granted { fence: Fence(4) }, Moment(1), 0.5);
    assert_eq!((step.change, a.fence(1)), (None, None));
}

#[test]
fn what_comes_late_to_an_emptied_store_deposes_no_holder() {
    let (mut a, mut b, mut store) = (Process::new("a", 0), Process::new("b", 0), store());
    play(&mut [&mut a], &mut store, 2_000, 3_000);
    let renewal =
        Request { id: RequestId(90), ask: Ask::Renew { fence: Fence(1) }, deadline: Moment(0) };
    let release =
        Request { id: RequestId(91), ask: Ask::Release { fence: Fence(1) }, deadline: Moment(0) };
    let again = Request {
        id: RequestId(92),
        ask: Ask::Acquire { at_least: Fence(9) },
        deadline: Moment(0),
    };
    // `a` is cut off, and `b` takes over.
    play(&mut [&mut b], &mut store, 3_000, 8_000);
    assert_eq!(b.fence(7_999), Some(2));
    store.empty();
    // What `a` had sent before arrives first.
    let holder = a.holder.clone();
    assert!(matches!(store.ask(&holder, &renewal, Moment(8_000)), Reply::Renewed { .. }));
    for request in [&again, &release, &again] {
        assert!(matches!(store.ask(&holder, request, Moment(8_001)), Reply::Refused { .. }));
    }
    assert_eq!(store.holder(Moment(8_001)), None);
    store.empty();
    store.ask(&holder, &renewal, Moment(8_002));
    play(&mut [&mut b], &mut store, 8_003, 12_000);
    assert_eq!((b.changes.len(), b.fence(11_999)), (1, Some(2)), "{:?}", b.changes);
}

#[test]
fn news_after_a_freeze_find_the_lease_ended() {
    let (mut a, mut store) = (Process::new("a", 0), store());
    play(&mut [&mut a], &mut store, 2_000, 3_000);
    let mut other = a.lease.clone();
    for step in [a.lease.heard(Fence(0), Moment(9_000)), other.nudge(Moment(9_000))] {
        let lost = LeaseChange::Lost { fence: Fence(1), why: Loss::Expired };
        assert_eq!(step.change, Some(lost));
        let renews = |request: &Request| matches!(request.ask, Ask::Renew { .. });
        assert!(!step.send.as_ref().is_some_and(renews), "{:?}", step.send);
    }
}
