//! The occurrences of a world of several processes, and their messages.

use std::net::SocketAddr;

use ringmaster_core::{
    fleet::{
        desired::Desired,
        ids::{Handle, InstanceId, Moment},
        message::{Event, StartRequest, WriteId},
    },
    roles::{
        acknowledgements::Report,
        ids::{Fence, RequestId, Version},
        lease::{Reply, Request},
        publication::{Delta, Publication},
    },
};

/// One run of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Supervisor(usize, u32),
    Balancer(usize, u32),
}

/// Something that will happen. Results of effects have the index of the supervisor and the term that
/// began them.
#[derive(Clone, Debug)]
pub(super) enum Occurrence {
    /// A message reaches the store.
    Call(Who, Call),
    /// A message reaches a process.
    Deliver(Who, StoreMessage),
    LeaseWakes(Who, u64),
    Poll(Who),
    CoreWakes(Who, u64, u64),
    EffectResult(usize, u64, Box<Event>),
    Create(usize, u64, Box<StartRequest>),
    Remove(Handle),
    TakeList(usize, u64, Moment),
    ProbeArrives(usize, u64, InstanceId, SocketAddr),
    WorkersLoaded(Who, Box<Publication>),
    Reports(Who),
    Reads(Who),
    /// A client sends a request to a balancer.
    ClientRequest(Who),
    /// A request ends.
    ClientResponse(Who, InstanceId),
    Fault(Fault),
}

/// A message of a process to the store.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Lease(Request),
    /// With the term of the process, if it has one.
    Load(Option<Fence>),
    /// `None` writes the state again, because the store had lost it.
    Write(Option<WriteId>, Version, Box<Desired>),
    Publish(Box<Publication>, Option<Box<Delta>>),
    ReadTable,
    Report(Report),
}

/// A message of the store to a process.
#[derive(Clone, Debug)]
pub(super) enum StoreMessage {
    Lease(RequestId, Reply),
    Loaded(Option<Fence>, Option<(Version, Box<Desired>)>),
    Written(Option<WriteId>, Version, Result<Box<Desired>, String>),
    Table(Option<Box<Publication>>),
    /// The version of a new table, and its difference to the one before.
    Changed(Version, Option<Box<Delta>>),
    Report(Report),
}

/// A fault, or a command of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    SupervisorDies(usize),
    SupervisorReturns(usize),
    SupervisorFreezes(usize),
    SupervisorEnds(usize),
    SupervisorCut(usize, bool),
    BalancerDies(usize),
    BalancerReturns(usize),
    BalancerCut(usize, bool),
    StoreEmptied,
    StoreFreezes,
    StoreAway,
    StoreRestartsEmpty,
    InstanceDies,
    InstanceHangs,
    InstanceRecovers,
    TroubleRises,
    TroubleFalls,
    Adds,
    Removes,
}
