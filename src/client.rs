//! The client subcommands: one request to a running balancer's admin port, shown to a person or
//! passed on as JSON.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::{Client, Scale};

/// Longer than the slowest command: start deadline, drain, stop grace and some retries.
const DEADLINE: Duration = Duration::from_secs(120);

/// Lists the replicas in service.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn replicas(client: &Client, as_json: bool) -> anyhow::Result<String> {
    let answer = ask(client, Method::GET, "/rep", None).await?;
    show(as_json, &answer, |answer| {
        names(&answer["message"]["replicas"]).into_iter().map(|name| format!("{name}\n")).collect()
    })
}

/// Adds replicas.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn add(scale: &Scale, as_json: bool) -> anyhow::Result<String> {
    change(scale, as_json, "/add", "added").await
}

/// Removes replicas.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn rm(scale: &Scale, as_json: bool) -> anyhow::Result<String> {
    change(scale, as_json, "/rm", "removed").await
}

async fn change(scale: &Scale, as_json: bool, path: &str, key: &str) -> anyhow::Result<String> {
    let n = scale.n.unwrap_or(scale.names.len().max(1));
    let body = json!({ "n": n, "hostnames": scale.names });
    let path = if scale.dry_run { format!("{path}?dry_run=true") } else { path.to_owned() };
    let answer = ask(&scale.client, Method::POST, &path, Some(body)).await?;
    show(as_json, &answer, |answer| {
        let message = &answer["message"];
        if scale.dry_run {
            return dry_run_text(message);
        }
        let (changed, now) = (names(&message[key]), names(&message["replicas"]));
        format!("{key} {}\nin service: {}\n", changed.join(" "), now.join(" "))
    })
}

fn dry_run_text(message: &Value) -> String {
    let percent = |value: &Value| value.as_f64().unwrap_or(0.0) * 100.0;
    let mut text = format!(
        "{:.1} % of all keys would move, {:.1} % is the minimum\n",
        percent(&message["moved_share"]),
        percent(&message["minimum_share"])
    );
    for entry in message["moves"].as_array().into_iter().flatten() {
        let name = |key: &str| entry[key].as_str().unwrap_or("(nobody)").to_owned();
        let share = percent(&entry["share"]);
        let _ = writeln!(text, "{share:>6.1} %  {} -> {}", name("from"), name("to"));
    }
    text
}

/// Shows who owns which share of the keys.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn ring(client: &Client, as_json: bool) -> anyhow::Result<String> {
    let answer = ask(client, Method::GET, "/api/ring", None).await?;
    show(as_json, &answer, |ring| {
        let mut text = format!(
            "{} slots, {} virtual servers a replica, placement {}, generation {}, digest {}\n",
            ring["slots"],
            ring["virtual_servers"],
            ring["placement"].as_str().unwrap_or("?"),
            ring["generation"],
            ring["digest"].as_str().unwrap_or("?")
        );
        for replica in ring["replicas"].as_array().into_iter().flatten() {
            let share = replica["share"].as_f64().unwrap_or(0.0) * 100.0;
            let bar = "#".repeat((share / 2.0).round() as usize);
            let name = replica["name"].as_str().unwrap_or("?");
            let _ = writeln!(text, "{name:<24} {share:>5.1} %  {bar}");
        }
        if let Some(peak) = ring["peak_to_average"].as_f64() {
            let _ = writeln!(text, "peak-to-average {peak:.3}");
        }
        text
    })
}

/// Shows all replicas and their instances.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn status(client: &Client, as_json: bool) -> anyhow::Result<String> {
    let answer = ask(client, Method::GET, "/api/status", None).await?;
    show(as_json, &answer, |status| {
        let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        let mut text = format!(
            "{} of {} replicas in service, generation {}, engine {}, command {} ({} waiting)\n",
            status["N"],
            status["desired"],
            status["generation"],
            word(&status["engine"]),
            word(&status["operation"]),
            status["commands_waiting"]
        );
        for replica in status["replicas"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "replica {} ({})", replica["id"], word(&replica["name"]));
            for instance in replica["instances"].as_array().into_iter().flatten() {
                let reason =
                    instance["reason"].as_str().map_or(String::new(), |r| format!(", {r}"));
                let outdated = if instance["outdated"] == true { ", outdated" } else { "" };
                let _ = writeln!(
                    text,
                    "  {:<24} incarnation {:<4} {}{reason}{outdated}  {}",
                    word(&instance["name"]),
                    instance["incarnation"],
                    word(&instance["phase"]),
                    instance["address"].as_str().unwrap_or("")
                );
            }
        }
        text
    })
}

fn names(list: &Value) -> Vec<String> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn show(
    as_json: bool,
    answer: &Value,
    text: impl FnOnce(&Value) -> String,
) -> anyhow::Result<String> {
    if as_json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(answer)?));
    }
    Ok(text(answer))
}

async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let url = format!("{}{path}", client.url.trim_end_matches('/'));
    // The balancer is near: a proxy of the environment would only get in the way.
    let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
    let mut request = http.request(method, &url);
    if let Some(token) = &client.token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.with_context(|| format!("no answer from {url}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("no whole answer from {url}"))?;
    let answer: Value = serde_json::from_str(&text)
        .with_context(|| format!("{url} is not a Ringmaster ({status})"))?;
    if !status.is_success() {
        let why = answer["message"].as_str().unwrap_or(status.as_str());
        // Its own mark of an error would come on top of ours.
        bail!("{}", why.strip_prefix("<Error> ").unwrap_or(why));
    }
    Ok(answer)
}
