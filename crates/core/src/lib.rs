//! The decisions of Ringmaster, as pure functions: time and chance are arguments, effects are
//! values. This crate's dependencies are hash functions, a generator that is seeded, and a derive
//! for errors, so nothing in it can ask a clock, wait, log or reach a socket.
//!
//! | module | decides | never |
//! |---|---|---|
//! | [`ring`] | who owns a slot, and in which order a key tries replicas | knows of health |
//! | [`balance`] | who of the admitted gets a request | sees a connection |
//! | [`fleet`] | what is to be done about the difference of desired and observed | waits for an effect |
//! | [`roles`] | which of several processes may act, and what the others route by | knows of a store's protocol |
//!
//! `roles` uses `fleet` and `ring`, `fleet` and `balance` use `ring`.

pub mod balance;
pub mod fleet;
pub mod ring;
pub mod roles;
