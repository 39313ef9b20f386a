//! The lines of a trace, which is shown when a run breaks a property.

use std::fmt;

use ringmaster_core::fleet::{
    command::{Done, RingChange, RingView},
    message::{Action, Event},
    notes::Note,
};

/// Displays a value on one line, without whole rings and listings.
pub(super) struct Brief<T>(pub(super) T);

impl fmt::Display for Brief<&Event> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event::Listed { requested_at, result: Ok(listing) } = self.0 else {
            return write!(f, "{:?}", self.0);
        };
        write!(f, "Listed as of {}:", requested_at.0)?;
        for found in &listing.found {
            let instance = found.identity.as_ref().map(|identity| identity.instance);
            let instance = instance.map_or("?".to_owned(), |instance| instance.to_string());
            write!(f, " {instance}={} {:?};", found.handle, found.state)?;
        }
        Ok(())
    }
}

impl fmt::Display for Brief<&Action> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Action::Persist { write, desired } => {
                write!(f, "Persist {} of generation {}:", write.0, desired.generation().0)?;
                desired
                    .replicas()
                    .iter()
                    .try_for_each(|r| write!(f, " {}={}", r.instance(), r.name))
            }
            Action::Respond(id, Ok(Done::Preview(change) | Done::Changed(change))) => {
                write!(f, "Respond {} {}", id.0, Brief(&**change))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Brief<&Note> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Note::Committed { cause, names, change } => {
                write!(f, "Committed {} {names:?}: {}", cause.name(), Brief(&**change))
            }
            Note::RingChanged { change } => write!(f, "RingChanged {}", Brief(&**change)),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Brief<&RingChange> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = |view: &RingView| view.ring.digest();
        let RingChange { before, after, moves } = self.0;
        write!(
            f,
            "generation {} to {}, ring {:x} to {:x}, {} moves",
            before.generation.0,
            after.generation.0,
            digest(before),
            digest(after),
            moves.moves.len()
        )
    }
}
