//! The pages of the systems whose commands work here: each endpoint and each example of a page,
//! against the real program and real servers.

mod seed_000;
mod seed_001;
mod seed_003;
mod support;
