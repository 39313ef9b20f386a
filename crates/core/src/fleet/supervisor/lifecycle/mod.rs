//! Starts and stops.
mod start;
