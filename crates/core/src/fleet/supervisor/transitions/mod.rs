//! What the concerns have in common: the transitions of one instance or of the running command,
//! each with what is reported and asked for because of it. Admission, ejection and draining are each
//! in one place, here.

pub(super) mod address;
pub(super) mod admit;
pub(super) mod begin;
pub(super) mod drain;
pub(super) mod eject;
pub(super) mod end;
pub(super) mod failure;
pub(super) mod stray;
pub(super) mod suspect;
