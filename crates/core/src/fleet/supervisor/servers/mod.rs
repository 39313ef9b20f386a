//! Registered servers: where they are, and which of them may have an address.

mod addresses;
pub(super) mod resolve;
