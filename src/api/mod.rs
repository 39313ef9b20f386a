//! The APIs: parse, command, wire. Nothing is decided here.
//!
//! [`scaling`] is the scaling API, on the traffic port and on the admin port; [`admin`] adds what
//! only the admin port has. Both see the control core through its handle only, and stand behind
//! [`guard`]. Where several processes share a fleet, [`follow`] answers from what a process knows
//! itself, and passes the rest on to the one that supervises.

pub mod admin;
mod evidence;
pub mod follow;
pub mod guard;
mod health;
pub mod listener;
mod logs;
mod metrics;
mod origin;
pub mod relay;
mod request;
mod retry;
mod ring;
pub mod scaling;
pub mod shared;
pub mod statistics;
pub mod traffic;
mod wire;
