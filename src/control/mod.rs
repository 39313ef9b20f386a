//! The shell of the supervisor.
