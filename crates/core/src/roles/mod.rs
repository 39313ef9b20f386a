//! Several processes of one fleet: which of them may act, what they route by, and which have
//! acknowledged it.
//! Pure, like [`fleet`](crate::fleet): time and chance are arguments, requests are values.
//!
//! One *supervisor* acts, and only while it holds the *lease* of the fleet ([`lease`]); others stand
//! by. It publishes each routing table under a version ([`publication`]), in full and as what has
//! changed. *Balancers* follow, and say what they have acknowledged ([`acknowledgements`]), so that a
//! drain counts only when no live one routes to the instance any more. All of them meet in a store;
//! [`arbiter`] is what that has to decide by, and what the scripts of a real one are compared with.

pub mod acknowledgements;
pub mod arbiter;
pub mod ids;
pub mod lease;
pub mod publication;
