//! What there is.
mod configured;
mod listing;
mod revisions;
