//! The client subcommands: one request to a running balancer's admin port, shown to a person or
//! passed on as JSON.

mod draw;
mod logs;

use std::{fmt::Write, io::IsTerminal, time::Duration};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

pub use logs::logs;

use crate::cli::{Add, Client, Reweigh, Ring, RingChange, Scale, SetRing};

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
pub async fn add(add: &Add, as_json: bool) -> anyhow::Result<String> {
    change(&add.scale, Some(add.weight), as_json, "/add", "added").await
}

/// Removes replicas.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn rm(scale: &Scale, as_json: bool) -> anyhow::Result<String> {
    change(scale, None, as_json, "/rm", "removed").await
}

async fn change(
    scale: &Scale,
    weight: Option<u32>,
    as_json: bool,
    path: &str,
    key: &str,
) -> anyhow::Result<String> {
    let n = scale.n.unwrap_or(scale.names.len().max(1));
    let mut body = json!({ "n": n, "hostnames": scale.names });
    if let Some(weight) = weight {
        body["weight"] = weight.into();
    }
    let path = with_dry_run(path, scale.dry_run);
    let answer = ask(&scale.client, Method::POST, &path, Some(body)).await?;
    show(as_json, &answer, |answer| {
        let message = &answer["message"];
        if scale.dry_run {
            return draw::change(message, true);
        }
        let (changed, now) = (names(&message[key]), names(&message["replicas"]));
        format!("{key} {}\nin service: {}\n", changed.join(" "), now.join(" "))
    })
}

/// Shows who owns which share of the keys, or where one key goes.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn ring(ring: &Ring, as_json: bool) -> anyhow::Result<String> {
    match (&ring.change, &ring.key) {
        (Some(RingChange::Set(set)), _) => set_ring(set, as_json).await,
        (Some(RingChange::Weight(weight)), _) => reweigh(weight, as_json).await,
        (None, Some(key)) => {
            let path = format!("/api/lookup/{}", segment(key)?);
            let answer = ask(&ring.client, Method::GET, &path, None).await?;
            show(as_json, &answer, draw::lookup)
        }
        (None, None) => {
            let answer = ask(&ring.client, Method::GET, "/api/ring", None).await?;
            // See https://no-color.org.
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colours = std::io::stdout().is_terminal() && !plain;
            show(as_json, &answer, |answer| draw::ring(answer, colours))
        }
    }
}

async fn set_ring(set: &SetRing, as_json: bool) -> anyhow::Result<String> {
    // On a command line others could read it.
    let from_environment = || std::env::var("RINGMASTER_HASH_KEY").ok();
    let wants_key = set.hash.as_deref() == Some("siphash") && set.hash_key.is_none();
    let hash_key = set.hash_key.clone().or_else(|| from_environment().filter(|_| wants_key));
    let body = json!({
        "algorithm": set.algorithm,
        "slots": set.slots,
        "virtual_servers": set.virtual_servers,
        "placement": set.placement,
        "collision": set.collision,
        "hash": set.hash,
        "hash_key": hash_key,
    });
    let Value::Object(mut fields) = body else { unreachable!("it is written as an object") };
    fields.retain(|_, value| !value.is_null());
    let path = with_dry_run("/api/ring", set.dry_run);
    let answer = ask(&set.client, Method::PUT, &path, Some(fields.into())).await?;
    show(as_json, &answer, |answer| draw::change(&answer["message"], set.dry_run))
}

async fn reweigh(reweigh: &Reweigh, as_json: bool) -> anyhow::Result<String> {
    let path = format!("/api/servers/{}/weight", segment(&reweigh.name)?);
    let body = json!({ "weight": reweigh.weight });
    let path = with_dry_run(&path, reweigh.dry_run);
    let answer = ask(&reweigh.client, Method::PUT, &path, Some(body)).await?;
    show(as_json, &answer, |answer| match reweigh.dry_run {
        true => draw::change(&answer["message"], true),
        false => format!("{}\n", answer["message"].as_str().unwrap_or("done")),
    })
}

fn with_dry_run(path: &str, is_dry_run: bool) -> String {
    if is_dry_run { format!("{path}?dry_run=true") } else { path.to_owned() }
}

/// A text as one segment of a path.
fn segment(text: &str) -> anyhow::Result<String> {
    // Encoded or not, these mean another path.
    if matches!(text, "" | "." | "..") {
        bail!("'{text}' cannot be asked for: no URL carries it");
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    let mut encoded = String::new();
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Ok(encoded)
}

/// Shows all replicas and their instances.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn status(client: &Client, as_json: bool) -> anyhow::Result<String> {
    let answer = ask(client, Method::GET, "/api/status", None).await?;
    show(as_json, &answer, |status| {
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
            logs::trouble(&mut text, replica);
            for instance in replica["instances"].as_array().into_iter().flatten() {
                put_instance(&mut text, instance);
            }
        }
        for instance in status["joining"].as_array().into_iter().flatten() {
            text.push_str("joining\n");
            put_instance(&mut text, instance);
        }
        text
    })
}

fn put_instance(text: &mut String, instance: &Value) {
    let reason = instance["reason"].as_str().map_or(String::new(), |r| format!(", {r}"));
    let outdated = if instance["outdated"] == true { ", outdated" } else { "" };
    let line = format!(
        "  {:<24} incarnation {:<4} {}{reason}{outdated}  {}",
        word(&instance["name"]),
        instance["incarnation"],
        word(&instance["phase"]),
        instance["address"].as_str().unwrap_or("")
    );
    let _ = writeln!(text, "{}", line.trim_end());
    if let Some(why) = instance["last_probe"].as_str() {
        let _ = writeln!(text, "    {why}");
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("none")
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
        let why = answer["message"].as_str().or(answer["error"].as_str());
        let why = why.unwrap_or(status.as_str());
        // Its own mark of an error would come on top of ours.
        bail!("{}", why.strip_prefix("<Error> ").unwrap_or(why));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_one_of_a_path() {
        assert_eq!(segment("user/42 é..").unwrap(), "user%2F42%20%C3%A9%2E%2E");
        for text in ["", ".", ".."] {
            let why = segment(text).unwrap_err().to_string();
            assert!(why.starts_with(&format!("'{text}' cannot be asked for")), "{why}");
        }
    }
}
