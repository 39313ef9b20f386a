//! What there is: the list of all instances, which is the truth as of when it was asked for, and
//! the hints that the engine gives in between. The first list boots the fleet.

mod boot;
mod configured;
mod labels;
pub(super) mod listing;
mod reconcile;
mod revisions;
pub(super) mod sightings;
