//! The real program and its driver on a real Docker engine.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../support/docker.rs"]
mod docker;
#[path = "../support/docker_support/mod.rs"]
mod docker_support;
mod driver;
mod engine;
mod examples;
mod guard;
#[path = "../support/harness/mod.rs"]
mod harness;
mod heal;
#[path = "../support/private_engine.rs"]
mod private_engine;
mod restart;
mod scale;
mod shutdown;
