//! The data plane alone, in front of fixed addresses: to measure it, and to look at it.
//!
//! `static_proxy LISTEN WORKERS ENGINE UPSTREAM...`, where the engine is `hyper` or `own`, for example
//! `cargo run --release -p ringmaster-proxy --example static_proxy 127.0.0.1:8080 1 own 127.0.0.1:9000`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use ringmaster_core::{
    fleet::{
        ids::{Generation, Incarnation, InstanceId, ReplicaId, ReplicaName},
        table::{RoutingTable, Target},
    },
    ring::{Ring, RingSettings, membership},
};
use ringmaster_proxy::{Engine, ProxyConfig, Routes, Workers};
use tokio::sync::mpsc;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: static_proxy LISTEN WORKERS hyper|own UPSTREAM...";
    let config = ProxyConfig {
        listen: args.next().context(usage)?.parse()?,
        workers: args.next().context(usage)?.parse()?,
        engine: match args.next().context(usage)?.as_str() {
            "hyper" => Engine::Hyper,
            "own" => Engine::Own,
            _ => anyhow::bail!(usage),
        },
        ..ProxyConfig::default()
    };
    let upstreams = args.map(|address| address.parse()).collect::<Result<Vec<_>, _>>()?;
    let routes = Routes::new(table(&upstreams)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (failures, mut reports) = mpsc::channel(1024);
        let mut workers = Workers::start(config, routes, failures, axum::Router::new())?;
        eprintln!("listening on {}", workers.local_addr());
        loop {
            tokio::select! {
                Some((instance, kind)) = reports.recv() => eprintln!("{instance}: {kind:?}"),
                _ = tokio::signal::ctrl_c() => break,
            }
        }
        workers.shutdown(Duration::from_secs(5)).await;
        for family in workers.metrics().families() {
            for (label, value) in family.values {
                eprintln!("{value:>22} {} {label}", family.name);
            }
        }
        anyhow::Ok(())
    })
}

fn table(upstreams: &[SocketAddr]) -> anyhow::Result<RoutingTable> {
    let settings = RingSettings::default();
    let mut members = Vec::new();
    let mut targets = Vec::new();
    for (id, address) in (1..).zip(upstreams) {
        membership::join(&settings, &mut members, ReplicaId(id), 1)?;
        targets.push(Some(Target {
            instance: InstanceId { replica: ReplicaId(id), incarnation: Incarnation::FIRST },
            name: ReplicaName::numbered(id),
            address: *address,
        }));
    }
    Ok(RoutingTable {
        generation: Generation(1),
        ring: Arc::new(Ring::new(settings, members)?),
        targets,
        finishing: Vec::new(),
    })
}
