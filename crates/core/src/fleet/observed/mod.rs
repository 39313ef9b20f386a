//! What was observed: the instances, how far each has come, and how it passes from one phase to the
//! next.

mod instance;
mod transitions;

pub use instance::{
    EjectReason, Exit, Health, Instance, Instances, Lookup, Passes, Phase, Probing, StopProgress,
    Suspicion, of_replica,
};
pub(crate) use transitions::Departure;
