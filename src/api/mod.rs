//! The APIs: parse, command, wire. Nothing is decided here.
//!
//! [`scaling`] is the scaling API, [`servers`] and [`nodes`] are those of two other balancers: on the
//! admin port, and on the traffic port where they are mounted. [`admin`] adds what only the admin
//! port has. All see the control core through its handle only, and stand behind [`guard`]. Where
//! several processes share a fleet, [`follow`] answers from what a process knows itself, and passes
//! the rest on to the one that supervises, which has statistics from all of them ([`others`]).

pub mod admin;
mod evidence;
pub mod follow;
pub mod guard;
mod health;
pub mod listener;
mod logs;
mod metrics;
pub mod nodes;
mod origin;
pub mod others;
pub mod peers;
mod process;
mod process_wire;
pub mod relay;
mod request;
mod retry;
mod ring;
pub mod scaling;
pub mod servers;
pub mod shared;
pub mod statistics;
pub mod traffic;
mod wire;
