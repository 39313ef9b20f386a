//! Registered servers.
mod addresses;
