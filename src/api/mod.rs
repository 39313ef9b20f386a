//! The APIs: parse, command, wire. Nothing is decided here.
//!
//! [`scaling`] is the scaling API, [`servers`] and [`nodes`] are those of two other balancers: on the
//! admin port, and on the traffic port where they are mounted. [`admin`] adds what only the admin
//! port has. All see the control core through its handle only, and stand behind
//! [`guard`].

pub mod admin;
mod evidence;
pub mod guard;
mod health;
pub mod listener;
mod logs;
mod metrics;
pub mod nodes;
mod origin;
mod request;
mod retry;
mod ring;
pub mod scaling;
pub mod servers;
pub mod statistics;
pub mod traffic;
mod wire;
