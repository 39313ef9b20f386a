//! An addition on its way: it begins, and it may miss its deadline.

use super::{newcomers::newcomers, servers::registered};
use crate::fleet::{
    command::{CommandId, Done, ScaleError},
    desired::Newcomer,
    ids::{Moment, ReplicaName},
    operation::{AddStage, Operation},
    server::Registration,
    state::State,
    supervisor::{
        context::Context,
        operations::checks::{engine_answers, no_room},
    },
};

/// Replicas are started.
pub(crate) fn begin_add(
    state: &mut State,
    cx: &mut Context<'_>,
    command: CommandId,
    (n, names): (usize, &[ReplicaName]),
    weight: u32,
) -> Result<(), ScaleError> {
    let newcomers = newcomers(state, cx, (n, names), weight)?;
    engine_answers(state)?;
    let deadline = cx.now + state.limits.start_deadline;
    begin(state, command, newcomers, (names.len(), deadline))
}

/// Servers are registered.
pub(crate) fn begin_register(
    state: &mut State,
    cx: &mut Context<'_>,
    command: CommandId,
    servers: &[Registration],
) -> Result<(), ScaleError> {
    let newcomers = registered(state, servers)?;
    if newcomers.is_empty() {
        cx.respond(command, Ok(Done::Added(Vec::new())));
        return Ok(());
    }
    let (named, deadline) = (newcomers.len(), cx.now + state.limits.register_wait);
    begin(state, command, newcomers, (named, deadline))
}

fn begin(
    state: &mut State,
    command: CommandId,
    newcomers: Vec<Newcomer>,
    (named, deadline): (usize, Moment),
) -> Result<(), ScaleError> {
    let after = state.desired.with(&newcomers).map_err(no_room)?;
    // These identities are used up even if the addition fails: its containers bear them.
    state.next_id = after.next_id().max(state.next_id);
    let joined = &after.replicas()[after.replicas().len() - newcomers.len()..];
    state.operation = Some(Operation::Adding {
        command,
        named,
        places: joined.iter().map(|replica| replica.member.clone()).collect(),
        newcomers,
        stage: AddStage::Warming { deadline },
    });
    Ok(())
}
