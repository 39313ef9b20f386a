//! Load generator and experiments for Ringmaster.
//!
//! - [`load`]: sends requests to a running HTTP server and counts the responses exactly.
//! - [`experiments`]: each one is a load with a question, a chart and a table.
//! - [`peers`]: the cost of one request, compared with other proxies.
//! - [`ring`]: the figures of the ring beside their goals, without a balancer.
//! - [`control`]: the cost of the control side at rest, with many replicas.
//! - [`roles`]: several processes of one fleet, while servers, supervisors and the Redis come and go.
//! - [`predict`]: predicts requests per replica. Pure.
//! - [`balancer`]: a client of a running balancer's API.
//! - [`plot`] and [`report`]: from numbers to SVG, CSV and text. Pure: the same
//!   numbers give the same bytes.
//!
//! [`cli`] turns the command line into plans; nothing below it knows of flags.
//!
//! All of it runs on one thread on purpose: on a small machine the generator
//! must leave the other cores to what is being measured.

pub mod balancer;
pub mod cli;
pub mod control;
pub mod experiments;
pub mod load;
pub mod peers;
pub mod plot;
pub mod predict;
mod process;
pub mod report;
pub mod ring;
pub mod roles;
pub mod target;
