//! Typed transitions that the core reports. The shell turns each into one log line, one counter
//! and one line of the decision record.

/// One transition. (More variants follow with the supervisor.)
#[derive(Clone, Debug, PartialEq)]
pub enum Note {}
