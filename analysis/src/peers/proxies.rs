//! The proxies: their configurations, filled in and started.
//!
//! All of them do the same work: one thread, the ring by header, connections to the replicas that
//! are kept for as long, the same headers added, nothing logged, nothing on disk.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{
    Question, replica,
    rows::{Proxy, Row, Work},
    walk,
};
use crate::{
    balancer::Balancer,
    process::{Child, LOAD_CORE, PROXY_CORE, Ready, free_port},
};

const HAPROXY: &str = include_str!("../../peers/haproxy.cfg");
const NGINX: &str = include_str!("../../peers/nginx.conf");
const ENVOY: &str = include_str!("../../peers/envoy.yaml");

/// Client connections that every proxy allows.
const CONNECTIONS_MAX: usize = 12_000;
/// Timeout for the admission of all replicas.
const ADMISSION: Duration = Duration::from_secs(20);
/// Heartbeat interval of a small fleet.
const HEARTBEAT_MS: usize = 400;
/// The size of a small fleet. A larger one has a longer interval, so that the heartbeats cost the same.
const HEARTBEAT_FLEET: usize = 3;

/// A proxy that serves.
pub(super) struct Running {
    /// The process.
    pub(super) child: Child,
    /// Where it serves.
    pub(super) address: SocketAddr,
    /// Its configuration and state, for as long as it runs.
    _folder: TempDir,
}

/// The program of a proxy, and its flag for the version.
pub(super) fn program(question: &Question, proxy: Proxy) -> (PathBuf, &'static str) {
    match proxy {
        Proxy::Ringmaster | Proxy::TwoWorkers => (question.ringmaster.clone(), "--version"),
        Proxy::Haproxy => (PathBuf::from("haproxy"), "-v"),
        Proxy::Nginx => (PathBuf::from("nginx"), "-v"),
        Proxy::Envoy => (question.envoy.clone(), "--version"),
        Proxy::Splice => (question.myself.clone(), "--version"),
    }
}

/// Starts a proxy for a row, and waits until it serves.
pub(super) async fn start(
    question: &Question,
    proxy: Proxy,
    row: &Row,
    replicas: u16,
) -> Result<Running> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let port = free_port()?;
    let admin = free_port()?;
    let upstreams: Vec<SocketAddr> =
        (0..row.replicas).map(|number| replica::address(number, replicas)).collect();
    let place = Place { folder: folder.path(), port, admin, upstreams: &upstreams, row };
    let arguments = place.arguments(proxy)?;
    let cores = match proxy {
        Proxy::TwoWorkers => format!("{PROXY_CORE},{LOAD_CORE}"),
        _ => PROXY_CORE.to_owned(),
    };
    let mut child = Child::on_cores(&cores, &program(question, proxy).0, &arguments)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Some proxies have ports that serve only HTTP/2.
    let ready = if is_h2(row) { Ready::Accepts } else { Ready::Answers };
    child.wait_until_ready(address, ready).await?;
    if matches!(proxy, Proxy::Ringmaster | Proxy::TwoWorkers) {
        wait_for_all(admin, row.replicas).await?;
    }
    Ok(Running { child, address, _folder: folder })
}

fn is_h2(row: &Row) -> bool {
    matches!(row.work, Work::H2 { .. })
}

/// Waits until every replica is admitted: a request over a fleet that grows is another request.
async fn wait_for_all(admin: u16, replicas: usize) -> Result<()> {
    let balancer = Balancer::new(&format!("http://127.0.0.1:{admin}"))?;
    let begun = Instant::now();
    let mut seen = 0;
    while begun.elapsed() < ADMISSION {
        seen = balancer.replicas().await.map_or(seen, |names| names.len());
        if seen == replicas {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{seen} of {replicas} replicas are admitted after {ADMISSION:?}")
}

/// The values for a configuration template.
struct Place<'a> {
    folder: &'a Path,
    port: u16,
    admin: u16,
    upstreams: &'a [SocketAddr],
    row: &'a Row,
}

impl Place<'_> {
    fn arguments(&self, proxy: Proxy) -> Result<Vec<String>> {
        match proxy {
            Proxy::Ringmaster => Ok(self.ringmaster(1)),
            Proxy::TwoWorkers => Ok(self.ringmaster(2)),
            Proxy::Haproxy => self.haproxy(),
            Proxy::Nginx => self.nginx(),
            Proxy::Envoy => self.envoy(),
            Proxy::Splice => {
                let upstream = self.upstreams.first().context("no replica")?;
                Ok(vec![
                    "splice".to_owned(),
                    format!("--listen=127.0.0.1:{}", self.port),
                    format!("--upstream={upstream}"),
                ])
            }
        }
    }

    fn ringmaster(&self, workers: usize) -> Vec<String> {
        let mut arguments = vec![
            "serve".to_owned(),
            "--driver=static".to_owned(),
            format!("--workers={workers}"),
            format!("--listen=127.0.0.1:{}", self.port),
            format!("--admin=127.0.0.1:{}", self.admin),
            format!("--state-dir={}", self.folder.display()),
            format!("--connections-max={CONNECTIONS_MAX}"),
        ];
        if self.row.is_about_the_ring() {
            // Where fleet sizes are compared, slots and algorithm stay the same.
            let interval = HEARTBEAT_MS * self.upstreams.len() / HEARTBEAT_FLEET;
            arguments.push("--algorithm=slots".to_owned());
            arguments.push(format!("--slots={}", walk::SLOTS));
            arguments.push(format!("--heartbeat-interval={interval}ms"));
        }
        for (number, upstream) in (1..).zip(self.upstreams) {
            arguments.push(format!("--upstream=server_{number}={upstream}"));
        }
        arguments
    }

    fn haproxy(&self) -> Result<Vec<String>> {
        let servers = self.each(|number, upstream| {
            // The same size and idle time of the connection pool as in the balancer.
            format!("    server server_{number} {upstream} pool-max-conn 1024 pool-purge-delay 4s")
        })?;
        let text = HAPROXY
            .replace("{port}", &self.port.to_string())
            .replace("{protocol}", if is_h2(self.row) { "proto h2" } else { "" })
            .replace("{connections}", &CONNECTIONS_MAX.to_string())
            .replace("{servers}", servers.trim_end());
        let path = self.write("haproxy.cfg", &text)?;
        Ok(vec!["-db".to_owned(), "-f".to_owned(), path])
    }

    fn nginx(&self) -> Result<Vec<String>> {
        let servers = self.each(|_, upstream| format!("        server {upstream} max_fails=0;"))?;
        // nginx counts connections to the replicas too.
        let connections = CONNECTIONS_MAX + 4_096;
        let text = NGINX
            .replace("{{port}}", &self.port.to_string())
            .replace("{{protocol}}", if is_h2(self.row) { "http2" } else { "" })
            .replace("{{folder}}", &self.folder.display().to_string())
            .replace("{{connections}}", &connections.to_string())
            .replace("{{files}}", &(connections + 1_024).to_string())
            .replace("{{servers}}", servers.trim_end());
        let path = self.write("nginx.conf", &text)?;
        let folder = self.folder.display().to_string();
        Ok(["-p", &folder, "-e", "stderr", "-c", &path].map(str::to_owned).to_vec())
    }

    fn envoy(&self) -> Result<Vec<String>> {
        let servers = self.each(|_, upstream| {
            let (ip, port) = (upstream.ip(), upstream.port());
            format!(
                "              - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}"
            )
        })?;
        let text =
            ENVOY.replace("{{port}}", &self.port.to_string()).replace("{{servers}}", &servers);
        let path = self.write("envoy.yaml", &text)?;
        let flags = ["--concurrency", "1", "--disable-hot-restart", "-l", "critical", "-c", &path];
        Ok(flags.map(str::to_owned).to_vec())
    }

    /// One line for each replica.
    fn each(&self, line: impl Fn(usize, &SocketAddr) -> String) -> Result<String> {
        let mut text = String::new();
        for (number, upstream) in (1..).zip(self.upstreams) {
            writeln!(text, "{}", line(number, upstream))?;
        }
        Ok(text)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::rows::ROWS;

    #[test]
    fn every_placeholder_of_a_configuration_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let upstreams = [replica::address(0, 9_000), replica::address(1, 9_000)];
        for row in ROWS {
            let place =
                Place { folder: folder.path(), port: 80, admin: 81, upstreams: &upstreams, row };
            for proxy in Proxy::ALL {
                assert!(!place.arguments(proxy).unwrap().is_empty());
            }
            let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
            let texts = ["haproxy.cfg", "nginx.conf", "envoy.yaml"].map(read);
            for text in &texts {
                let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
                let settings: String = settings.collect();
                assert!(settings.contains("127.1.0.1") && settings.contains("127.1.0.2"), "{text}");
                for place in ["port}", "servers}", "protocol}", "connections}", "folder}"] {
                    assert!(!settings.contains(place), "{place} in {text}");
                }
            }
            assert_eq!(texts[0].contains("proto h2"), row.name == "h2");
        }
    }
}
