//! The APIs: parse, command, wire. Nothing is decided here.
//!
//! [`scaling`] is the scaling API, on the traffic port and on the admin port; [`admin`] adds what
//! only the admin port has. Both see the control core through its handle only.

pub mod admin;
mod evidence;
pub mod listener;
mod logs;
mod metrics;
mod request;
mod ring;
pub mod scaling;
mod wire;
