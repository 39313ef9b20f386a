//! Prometheus text, on the admin port.

use std::fmt::Write;

use ringmaster_core::fleet::{ids::InstanceId, table::RoutingTable};
use ringmaster_proxy::{BOUNDS_MICROS, HistogramTotals, InstanceTotals, Totals};

use crate::{
    control::{
        Handle,
        roles::{Roles, Term},
    },
    logging,
};

/// What the data plane has counted, asked for at each scrape.
pub type TotalsSource = std::sync::Arc<dyn Fn() -> Totals + Send + Sync>;

/// What kind of text it is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn text(handle: &Handle, totals: &Totals) -> String {
    let mut out = String::new();
    fleet_metrics(&mut out, handle);
    let view = handle.view();
    let instances = view.replicas.iter().flat_map(|replica| &replica.instances);
    let names: Vec<(InstanceId, &str)> =
        instances.map(|instance| (instance.id, instance.name.as_str())).collect();
    data_plane_metrics(&mut out, &names, totals);
    out
}

/// The same of a process that follows: it knows its table only.
pub(super) fn text_of_follower(table: Option<&RoutingTable>, totals: &Totals) -> String {
    let mut out = String::new();
    let targets = table.into_iter().flat_map(|table| table.targets.iter().flatten());
    let names: Vec<(InstanceId, &str)> =
        targets.map(|target| (target.instance, target.name.as_str())).collect();
    let (name, help) = ("ringmaster_replicas", "Replicas in service.");
    header(&mut out, name, "gauge", help);
    line(&mut out, name, "", names.len() as f64);
    data_plane_metrics(&mut out, &names, totals);
    out
}

/// The part of a process in a fleet that others share; `term`: it supervises.
pub(super) fn text_of_roles(roles: &Roles, term: Option<&Term>) -> String {
    let mut out = String::new();
    let version = roles.local().now().version();
    let balancers = term.map(Term::balancers).unwrap_or_default();
    let live = balancers.iter().filter(|balancer| balancer.is_live).count();
    let is_up = roles.store().trouble().is_none();
    let gauges: [(&str, &str, f64); 6] = [
        ("ringmaster_leading", "Whether it supervises.", f64::from(u8::from(term.is_some()))),
        ("ringmaster_store_up", "Whether the store answers.", f64::from(u8::from(is_up))),
        ("ringmaster_table_fence", "Term of the routing table.", version.fence.0 as f64),
        ("ringmaster_table_number", "Number of the routing table.", version.number as f64),
        ("ringmaster_balancers", "Other balancers that report.", live as f64),
        (
            "ringmaster_balancers_disagreeing",
            "Balancers with another ring than the published one for more than a second.",
            term.map_or(0, Term::disagreeing) as f64,
        ),
    ];
    for (name, help, value) in gauges {
        header(&mut out, name, "gauge", help);
        line(&mut out, name, "", value);
    }
    out
}

fn data_plane_metrics(out: &mut String, names: &[(InstanceId, &str)], totals: &Totals) {
    for family in totals.families() {
        let name = format!("ringmaster_{}", family.name);
        header(out, &name, "counter", family.help);
        for (value, count) in &family.values {
            let labels = family.label.map(|label| format!("{{{label}=\"{value}\"}}"));
            line(out, &name, &labels.unwrap_or_default(), *count as f64);
        }
    }
    let name = "ringmaster_log_lines_dropped_total";
    header(out, name, "counter", "Lines of the balancer's own log that were not written.");
    line(out, name, "", logging::lines_dropped() as f64);
    replica_metrics(out, names, totals);
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

fn fleet_metrics(out: &mut String, handle: &Handle) {
    let view = handle.view();
    let flag = |is_set: bool| f64::from(u8::from(is_set));
    let roll = view.roll.as_ref();
    let gauges: [(&str, &str, f64); 8] = [
        ("ringmaster_replicas", "Replicas in service.", view.in_service.len() as f64),
        ("ringmaster_replicas_desired", "Desired replicas.", view.replicas.len() as f64),
        ("ringmaster_generation", "Version of the desired state.", view.ring.generation.0 as f64),
        (
            "ringmaster_ring_peak_to_average",
            "Largest share of a replica over the mean.",
            view.ring.ring.peak_to_average().unwrap_or(0.0),
        ),
        ("ringmaster_engine_up", "Whether the engine answers.", flag(view.engine_error.is_none())),
        (
            "ringmaster_panic",
            "Whether so many replicas fail at once that living ones are not replaced.",
            flag(view.is_panic),
        ),
        (
            "ringmaster_rolling",
            "Whether outdated replicas are being replaced.",
            flag(roll.is_some_and(|roll| !roll.is_stopped)),
        ),
        (
            "ringmaster_roll_stopped",
            "Whether a roll was given up because its newcomers failed.",
            flag(roll.is_some_and(|roll| roll.is_stopped)),
        ),
    ];
    for (name, help, value) in gauges {
        header(out, name, "gauge", help);
        line(out, name, "", value);
    }
    let name = "ringmaster_transitions_total";
    header(out, name, "counter", "Transitions of instances and of the fleet.");
    for (event, count) in handle.record().counts() {
        line(out, name, &format!("{{event=\"{event}\"}}"), count as f64);
    }
    let name = "ringmaster_keys_moved_share_total";
    header(out, name, "counter", "Sum of the shares of all keys that moved.");
    for (cause, share) in handle.record().moved_share() {
        line(out, name, &format!("{{cause=\"{cause}\"}}"), share);
    }
}

fn replica_metrics(out: &mut String, names: &[(InstanceId, &str)], totals: &Totals) {
    let known: Vec<(String, &InstanceTotals)> = totals
        .instances
        .iter()
        .filter_map(|(instance, counted)| {
            let (id, name) = names.iter().find(|(id, _)| id == instance)?;
            Some((format!("replica=\"{name}\",id=\"{}\"", id.replica), counted))
        })
        .collect();
    type Part = fn(&InstanceTotals) -> f64;
    let families: [(&str, &str, &str, Part); 5] = [
        ("ringmaster_replica_requests_total", "counter", "Requests given to a replica.", |t| {
            t.requests as f64
        }),
        (
            "ringmaster_replica_errors_total",
            "counter",
            "Requests without a response of the replica, and responses of 500 and above.",
            |t| t.errors as f64,
        ),
        (
            "ringmaster_replica_request_body_bytes_total",
            "counter",
            "Bytes of request bodies sent to a replica.",
            |t| t.bytes_up as f64,
        ),
        (
            "ringmaster_replica_response_body_bytes_total",
            "counter",
            "Bytes of response bodies received from a replica.",
            |t| t.bytes_down as f64,
        ),
        ("ringmaster_replica_in_flight", "gauge", "Open requests.", |t| t.in_flight as f64),
    ];
    for (name, kind, help, part) in families {
        header(out, name, kind, help);
        for (labels, counted) in &known {
            line(out, name, &format!("{{{labels}}}"), part(counted));
        }
    }
    let name = "ringmaster_replica_response_seconds";
    header(out, name, "histogram", "Time until a replica began its response.");
    for (labels, counted) in &known {
        histogram(out, name, labels, &counted.answers);
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, counted: &HistogramTotals) {
    let mut below = 0;
    for (bound, class) in BOUNDS_MICROS.iter().zip(counted.classes) {
        below += class;
        let bound = *bound as f64 / 1e6;
        line(out, &format!("{name}_bucket"), &format!("{{{labels},le=\"{bound}\"}}"), below as f64);
    }
    let (count, sum) = (counted.count() as f64, counted.micros as f64 / 1e6);
    line(out, &format!("{name}_bucket"), &format!("{{{labels},le=\"+Inf\"}}"), count);
    line(out, &format!("{name}_sum"), &format!("{{{labels}}}"), sum);
    line(out, &format!("{name}_count"), &format!("{{{labels}}}"), count);
}
