//! Additions.
mod newcomers;
