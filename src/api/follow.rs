//! What a process answers that follows: its own table, its own counters; all else is the supervisor's
//! to answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ringmaster_core::{
    fleet::{
        command::RingView,
        ids::{ReplicaId, ReplicaName},
        table::RoutingTable,
    },
    roles::{ids::Fence, publication::Publication},
};
use tower::ServiceExt;

use super::{
    guard::{self, AdminGuard, TrafficGuard},
    health, metrics, process, process_wire, servers,
    shared::Shared,
    wire::{self, NamesChange},
};
use crate::control::{
    Handle,
    roles::{Mode, Term},
};

/// The admin port: the supervisor's routes while this process is that, else what it knows itself.
pub fn admin_router(shared: &Shared, guard: AdminGuard) -> Router {
    let following = local_routes(shared)
        .route("/metrics", get(metrics_page).fallback(only_read))
        .route("/livez", get(health::livez).fallback(only_read))
        .route("/readyz", get(readyz).fallback(only_read))
        .route("/api/ring", get(ring).fallback(passed_on))
        .merge(process::router())
        .fallback(passed_on)
        .with_state(shared.clone());
    let own = shared.clone();
    let leading = move |term: &Term| {
        super::admin::routes(term.handle.clone(), own.traffic.clone(), Some((&own, term)))
    };
    guard::admin(switch(shared, leading, following), guard)
}

/// What of it is on the traffic port; `leading`: the routes of a supervisor.
pub fn traffic_router(
    shared: &Shared,
    leading: impl Fn(&Handle) -> Router + Send + Sync + 'static,
    guard: TrafficGuard,
) -> Router {
    let following = local_routes(shared).fallback(passed_on).with_state(shared.clone());
    let leading = move |term: &Term| leading(&term.handle).fallback(guard::unknown);
    // All of it is the fallback of the router that switches.
    guard::guarded(switch(shared, leading, following), guard)
}

fn local_routes(shared: &Shared) -> Router<Shared> {
    let router = Router::new().route("/rep", get(rep).fallback(only_read));
    match shared.roles.carries_traffic() {
        true => {
            router.route("/api/route", post(servers::route).fallback(servers::wrong_method_route))
        }
        false => router,
    }
}

/// One router while this process supervises, made once in each term, and another one while it follows.
fn switch(
    shared: &Shared,
    leading: impl Fn(&Term) -> Router + Send + Sync + 'static,
    following: Router,
) -> Router {
    let made = Arc::new(Mutex::new(None::<(Fence, Router)>));
    let (leading, shared) = (Arc::new(leading), shared.clone());
    let mode = shared.roles.mode();
    Router::new().fallback(move |request: Request| {
        let router = match &*mode.borrow() {
            Mode::Following => following.clone(),
            Mode::Leading(term) if is_local(&shared, term, request.uri().path()) => {
                following.clone()
            }
            Mode::Leading(term) => {
                // It is replaced as a whole.
                let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                match &*made {
                    Some((fence, router)) if *fence == term.fence => router.clone(),
                    _ => {
                        let router = leading(term);
                        *made = Some((term.fence, router.clone()));
                        router
                    }
                }
            }
        };
        async move { router.oneshot(request).await }
    })
}

/// Whether a supervisor answers as one that follows: what is asked of a process alone, and while it is
/// new, by the table that is in force, since it knows less of the fleet yet than its data plane does.
fn is_local(shared: &Shared, term: &Term, path: &str) -> bool {
    match path {
        "/readyz" | process_wire::STATISTICS | process_wire::RESET => true,
        "/rep" => !term.is_in_force() && shared.roles.local().now().publication.is_some(),
        _ => false,
    }
}

async fn passed_on(State(shared): State<Shared>, request: Request) -> Response {
    shared.relay.pass_on(&shared.roles, request).await
}

async fn only_read() -> Response {
    wire::wrong_method("GET, HEAD")
}

fn in_force(shared: &Shared) -> Result<Arc<Publication>, String> {
    shared.roles.local().now().publication.ok_or_else(|| {
        let trouble = shared.roles.store().trouble();
        let because = trouble.map(|why| format!(": the store does not answer: {why}"));
        format!("no routing table has come yet{}", because.unwrap_or_default())
    })
}

async fn rep(State(shared): State<Shared>) -> Response {
    match in_force(&shared) {
        Ok(publication) => {
            let targets = publication.table().targets.iter().flatten();
            let names: Vec<ReplicaName> = targets.map(|target| target.name.clone()).collect();
            wire::success(wire::names_of_replicas(&names, NamesChange::None))
        }
        Err(why) => wire::failure(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

async fn ring(State(shared): State<Shared>) -> Response {
    match in_force(&shared) {
        Ok(publication) => Json(wire::ring(&ring_view(publication.table()))).into_response(),
        Err(why) => wire::failure(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

/// The ring of a table. A replica that is not in service has no name there, and goes by its number.
fn ring_view(table: &RoutingTable) -> RingView {
    let names: BTreeMap<ReplicaId, &ReplicaName> = table
        .targets
        .iter()
        .flatten()
        .map(|target| (target.instance.replica, &target.name))
        .collect();
    let members = table.ring.members().iter();
    let name = |id: ReplicaId| names.get(&id).copied().cloned();
    RingView {
        generation: table.generation,
        ring: Arc::clone(&table.ring),
        names: members
            .map(|member| name(member.id).unwrap_or_else(|| ReplicaName::numbered(member.id.0)))
            .collect(),
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let ready = in_force(&shared).and_then(|publication| {
        let table = publication.table();
        match table.targets.iter().any(Option::is_some) || table.targets.is_empty() {
            true => Ok(()),
            false => Err(format!("no replica is in service, of {}", table.targets.len())),
        }
    });
    health::answer(ready)
}

async fn metrics_page(State(shared): State<Shared>) -> Response {
    let publication = shared.roles.local().now().publication;
    let table = publication.as_ref().map(|publication| publication.table());
    let mut text = metrics::text_of_follower(table, &(shared.traffic.totals)());
    text.push_str(&metrics::text_of_roles(&shared.roles, None));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}
