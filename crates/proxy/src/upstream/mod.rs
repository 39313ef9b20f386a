//! Connections to replicas: how they are made, and where they rest.

mod connection;
mod dial;
mod idle;

pub(crate) use self::{
    connection::Connection,
    dial::{DialError, Dialler},
    idle::Idle,
};
