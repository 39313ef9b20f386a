//! Commands that come, wait, are shown, and begin.

use super::{
    add::{join, newcomers::newcomers, servers::registered},
    change,
    checks::{engine_answers, no_room, replica_named},
    remove, retry, verdict,
};
use crate::fleet::{
    command::{CommandId, CommandResult, Done, Request, ScaleCommand, ScaleError},
    state::{Boot, State},
    supervisor::context::Context,
};

/// A command has come: it is answered at once where it changes no desired state, or else waits.
pub(crate) fn take(state: &mut State, cx: &mut Context<'_>, id: CommandId, request: Request) {
    if state.shutdown.is_some() {
        return cx.respond(id, Err(ScaleError::ShuttingDown));
    }
    // Before the first list nothing is known that a dry run could be exact about.
    if request.dry_run && state.boot == Boot::Done {
        let answer = preview(state, cx, &request.command);
        return cx.respond(id, answer);
    }
    // A verdict is no change of the fleet: it must not wait for a command that is under way.
    if let (ScaleCommand::SetHealth { name, is_healthy }, Boot::Done) =
        (&request.command, state.boot)
    {
        let marked = verdict::mark(state, cx, name, *is_healthy);
        return cx.respond(id, marked);
    }
    let waiting = state.queue.len();
    if waiting >= state.limits.commands_waiting {
        return cx.respond(id, Err(ScaleError::QueueFull(waiting)));
    }
    state.queue.push_back((id, request));
}

fn preview(state: &State, cx: &mut Context<'_>, command: &ScaleCommand) -> CommandResult {
    let desired = &state.desired;
    let after = match command {
        ScaleCommand::Add { n, names, weight } => {
            let newcomers = newcomers(state, cx, (*n, names), *weight)?;
            // The names that are shown are those that the command would draw.
            for newcomer in newcomers[names.len()..].iter().rev() {
                cx.chance.put_back(newcomer.name.clone());
            }
            desired.with(&newcomers)
        }
        ScaleCommand::Remove { n, names } => {
            Ok(desired.without(&remove::victims(state, cx, *n, names)?))
        }
        ScaleCommand::Reweigh { name, weight } => {
            change::weight(state, name, *weight)?.apply(desired)
        }
        ScaleCommand::SetRing(options) => change::ring(state, options)?.apply(desired),
        ScaleCommand::ChangeServer { name, change } => {
            change::server(state, name, change)?.apply(desired)
        }
        ScaleCommand::SetDrained { name, is_drained } => {
            change::drained(state, name, *is_drained)?.apply(desired)
        }
        ScaleCommand::Register(servers) => desired.with(&registered(state, servers)?),
        ScaleCommand::SetHealth { name, .. } => {
            return replica_named(state, name).map(|_| Done::Marked);
        }
        ScaleCommand::Retry => return Ok(retry::preview(state, cx.now)),
    };
    Ok(Done::Preview(Box::new(desired.change_to(&after.map_err(no_room)?))))
}

/// Takes the next command from the queue.
pub(crate) fn begin(state: &mut State, cx: &mut Context<'_>) {
    let Some((id, Request { command, dry_run })) = state.queue.pop_front() else { return };
    let is_blind = state.boot == Boot::AwaitingList;
    if let (true, Err(away)) = (is_blind, engine_answers(state)) {
        return cx.respond(id, Err(away));
    }
    if dry_run {
        let answer = preview(state, cx, &command);
        return cx.respond(id, answer);
    }
    // A retry takes effect at once; that it is also written may come later. A verdict is not kept.
    let is_lasting = !matches!(command, ScaleCommand::Retry | ScaleCommand::SetHealth { .. });
    if state.writing.hangs && is_lasting {
        let why = state.disk_hangs().to_string();
        return cx.respond(id, Err(ScaleError::NotPersisted(why)));
    }
    let begun = match &command {
        ScaleCommand::Add { n, names, weight } => {
            join::begin_add(state, cx, id, (*n, names), *weight)
        }
        ScaleCommand::Remove { n, names } => remove::begin(state, cx, id, (*n, names)),
        ScaleCommand::Reweigh { name, weight } => change::weight(state, name, *weight)
            .and_then(|change| change::begin(state, cx, id, change)),
        ScaleCommand::SetRing(options) => {
            change::ring(state, options).and_then(|change| change::begin(state, cx, id, change))
        }
        ScaleCommand::ChangeServer { name, change } => change::server(state, name, change)
            .and_then(|change| change::begin(state, cx, id, change)),
        ScaleCommand::SetDrained { name, is_drained } => change::drained(state, name, *is_drained)
            .and_then(|change| change::begin(state, cx, id, change)),
        ScaleCommand::Register(servers) => join::begin_register(state, cx, id, servers),
        ScaleCommand::SetHealth { name, is_healthy } => {
            let marked = verdict::mark(state, cx, name, *is_healthy);
            cx.respond(id, marked);
            Ok(())
        }
        ScaleCommand::Retry => {
            let retried = retry::retry(state, cx);
            cx.respond(id, retried);
            Ok(())
        }
    };
    if let Err(error) = begun {
        cx.respond(id, Err(error));
    }
}
