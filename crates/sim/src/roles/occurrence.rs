//! What can happen in a world of several processes, and what they say to each other.

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

/// Something that will happen. Results of effects come with the supervisor and the term that began
/// them.
#[derive(Clone, Debug)]
pub(super) enum Occurrence {
    /// A message reaches the store.
    Call(Who, Call),
    /// A message reaches a process.
    Told(Who, Told),
    LeaseWakes(Who, u64),
    Looks(Who),
    CoreWakes(Who, u64, u64),
    Happened(usize, u64, Box<Event>),
    Create(usize, u64, Box<StartRequest>),
    Remove(Handle),
    TakeList(usize, u64, Moment),
    ProbeArrives(usize, u64, InstanceId, SocketAddr),
    WorkersLoaded(Who, Box<Publication>),
    Reports(Who),
    Reads(Who),
    /// A client asks a balancer.
    Asks(Who),
    /// A client has its answer.
    Answered(Who, InstanceId),
    Fault(Fault),
}

/// What a process asks the store for.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Lease(Request),
    /// In which term, if in one.
    Load(Option<Fence>),
    /// `None`: the state again, because the store had lost it.
    Write(Option<WriteId>, Version, Box<Desired>),
    Publish(Box<Publication>, Option<Box<Delta>>),
    ReadTable,
    Report(Report),
}

/// What the store tells a process.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Lease(RequestId, Reply),
    Loaded(Option<Fence>, Option<(Version, Box<Desired>)>),
    Written(Option<WriteId>, Version, Result<Box<Desired>, String>),
    Table(Option<Box<Publication>>),
    /// There is a new table, and how it is made from the one before.
    Changed(Version, Option<Box<Delta>>),
    Report(Report),
}

/// One thing that goes wrong, or one command.
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
