//! The first of an instance: it is started, or a registered server is looked up.

use crate::fleet::{
    ids::{InstanceId, ReplicaId, ReplicaName},
    message::{Action, StartRequest},
    notes::{Note, StartCause},
    observed::{Instance, Phase},
    state::{Engine, State},
    supervisor::context::Context,
    values::Keeper,
};
use crate::ring::Member;

/// Asks the driver to start an instance.
pub(crate) fn start(
    state: &mut State,
    cx: &mut Context<'_>,
    id: InstanceId,
    name: ReplicaName,
    (member, cause): (&Member, StartCause),
) {
    debug_assert_eq!(state.engine, Engine::Up, "nothing is started while it is away");
    let phase = Phase::Starting { since: cx.now, ended: None };
    let mut instance = Instance::new(name.clone(), Keeper::Ringmaster, phase, cx.now);
    let wanted = state.wanted.as_ref().filter(|_| cause == StartCause::Outdated);
    instance.spec = wanted.map(|wanted| wanted.spec.clone());
    let image = state.image_for(cause);
    instance.image.clone_from(&image);
    state.begin(id, instance);
    cx.note(Note::Starting { instance: id, name: name.clone(), cause });
    cx.act(Action::Start(StartRequest {
        instance: id,
        name,
        ordinal: member.ordinal,
        weight: member.weight,
        positions: member.positions.clone(),
        image,
    }));
}

/// The first sight of a registered server, or of one that is to be: its place is looked up next.
pub(crate) fn begin_server(state: &mut State, cx: &Context<'_>, replica: ReplicaId) {
    let joining = state.operation.as_ref().and_then(|operation| operation.newcomer(replica));
    let (name, committed) = match (joining, state.desired.replica(replica)) {
        (Some(newcomer), _) => (newcomer.name.clone(), newcomer.incarnation),
        (None, Some(known)) => (known.name.clone(), known.incarnation),
        (None, None) => return,
    };
    // A server that has moved is another instance: nothing that is under way for the old place counts.
    let was_seen = state.incarnations.get(&replica).copied();
    let incarnation = was_seen.map_or(committed, |seen| seen.max(committed).next());
    let phase = Phase::Starting { since: cx.now, ended: None };
    let instance = Instance::new(name, Keeper::Others, phase, cx.now);
    state.begin(InstanceId { replica, incarnation }, instance);
}
