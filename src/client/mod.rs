//! The client subcommands: each sends a request to a running balancer's admin port and prints the
//! response as text or as JSON.

mod confirm;
mod draw;
mod logs;
mod servers;

use std::{fmt::Write, io::IsTerminal, time::Duration};

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value, json};

pub use logs::logs;
use ringmaster_core::fleet::view::Health;
pub use servers::servers;

use crate::{
    cli::{Add, AdminOptions, Remove, Reweigh, RingChange, RingCommand, Scale, SetRing},
    config::{Secret, token_from},
};

/// The timeout of a request. It is longer than the slowest command, which waits for the start
/// deadline, the drain, the stop grace and some retries.
const DEADLINE: Duration = Duration::from_secs(120);

/// Lists the replicas in service.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn replicas(client: &AdminOptions, as_json: bool) -> anyhow::Result<String> {
    let response = ask(client, Method::GET, "/rep", None).await?;
    show(as_json, &response, |response| {
        names(&response["message"]["replicas"])
            .into_iter()
            .map(|name| format!("{name}\n"))
            .collect()
    })
}

/// Adds replicas.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn add(add: &Add, as_json: bool) -> anyhow::Result<String> {
    change(&add.scale, Some(add.weight), as_json, "/add", "added").await
}

/// Removes replicas. At a terminal, asks before it removes more than half of the fleet or the last one.
///
/// # Errors
/// The balancer cannot be reached, or refuses, or the person declines.
pub async fn rm(remove: &Remove, as_json: bool) -> anyhow::Result<String> {
    let scale = &remove.scale;
    if !remove.yes && !scale.dry_run && confirm::is_possible() {
        let path = with_dry_run("/rm", true);
        let preview = ask(&scale.client, Method::POST, &path, Some(body_of(scale))).await?;
        confirm::confirm(&preview["message"])?;
    }
    change(scale, None, as_json, "/rm", "removed").await
}

fn body_of(scale: &Scale) -> Value {
    let n = scale.n.unwrap_or(scale.names.len().max(1));
    json!({ "n": n, "hostnames": scale.names })
}

async fn change(
    scale: &Scale,
    weight: Option<u32>,
    as_json: bool,
    path: &str,
    key: &str,
) -> anyhow::Result<String> {
    let mut body = body_of(scale);
    if let Some(weight) = weight {
        body["weight"] = weight.into();
    }
    let path = with_dry_run(path, scale.dry_run);
    let response = ask(&scale.client, Method::POST, &path, Some(body)).await?;
    show(as_json, &response, |response| {
        let message = &response["message"];
        if scale.dry_run {
            return draw::change(message, true);
        }
        let (changed, now) = (names(&message[key]), names(&message["replicas"]));
        format!("{key} {}\nin service: {}\n", changed.join(" "), now.join(" "))
    })
}

/// Shows the shares of the replicas, or the replica of one key, or changes the ring.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn ring(ring: &RingCommand, as_json: bool) -> anyhow::Result<String> {
    match (&ring.change, &ring.key) {
        (Some(RingChange::Set(set)), _) => set_ring(set, as_json).await,
        (Some(RingChange::Weight(weight)), _) => reweigh(weight, as_json).await,
        (None, Some(key)) => {
            let path = format!("/api/lookup/{}", segment(key)?);
            let response = ask(&ring.client, Method::GET, &path, None).await?;
            show(as_json, &response, draw::lookup)
        }
        (None, None) => {
            let response = ask(&ring.client, Method::GET, "/api/ring", None).await?;
            // The convention of https://no-color.org.
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colours = std::io::stdout().is_terminal() && !plain;
            show(as_json, &response, |response| draw::ring(response, colours))
        }
    }
}

async fn set_ring(set: &SetRing, as_json: bool) -> anyhow::Result<String> {
    // From the environment too, because a command line can be read by other processes.
    let from_environment = || std::env::var("RINGMASTER_HASH_KEY").ok();
    let wants_key = set.hash.as_deref() == Some("siphash") && set.hash_key.is_none();
    let given = set.hash_key.as_ref().map(|key| key.0.clone());
    let hash_key = given.or_else(|| from_environment().filter(|_| wants_key));
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
    let response = ask(&set.client, Method::PUT, &path, Some(fields.into())).await?;
    show(as_json, &response, |response| draw::change(&response["message"], set.dry_run))
}

async fn reweigh(reweigh: &Reweigh, as_json: bool) -> anyhow::Result<String> {
    let path = format!("/api/servers/{}/weight", segment(&reweigh.name)?);
    let body = json!({ "weight": reweigh.weight });
    let path = with_dry_run(&path, reweigh.dry_run);
    let response = ask(&reweigh.client, Method::PUT, &path, Some(body)).await?;
    show(as_json, &response, |response| match reweigh.dry_run {
        true => draw::change(&response["message"], true),
        false => format!("{}\n", response["message"].as_str().unwrap_or("done")),
    })
}

fn with_dry_run(path: &str, is_dry_run: bool) -> String {
    if is_dry_run { format!("{path}?dry_run=true") } else { path.to_owned() }
}

/// A text as one segment of a path.
fn segment(text: &str) -> anyhow::Result<String> {
    // Also when encoded, these would change the path.
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

/// Retries what the balancer has given up.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn retry(client: &AdminOptions, as_json: bool) -> anyhow::Result<String> {
    let response = ask(client, Method::POST, "/api/retry", None).await?;
    show(as_json, &response, |response| {
        let message = &response["message"];
        let roll = if message["roll"] == true { "the roll goes on" } else { "no roll was stopped" };
        let waiting = message["waiting"].as_u64().unwrap_or(0);
        format!("{roll}; replicas that waited for their next start: {waiting}\n")
    })
}

/// Shows all replicas and their instances. The health becomes the exit code.
///
/// # Errors
/// The balancer cannot be reached, or refuses.
pub async fn status(client: &AdminOptions, as_json: bool) -> anyhow::Result<(String, Health)> {
    let response = ask(client, Method::GET, "/api/status", None).await?;
    let health = match response["health"].as_str() {
        Some("down") => Health::Down,
        Some("degraded") => Health::Degraded,
        // An older balancer does not send it.
        _ => Health::Ok,
    };
    let text = show(as_json, &response, |status| {
        let mut text = format!(
            "{}{} of {} replicas in service, generation {}, engine {}, command {} ({} waiting)\n",
            match health {
                Health::Ok => "",
                Health::Degraded => "degraded: ",
                Health::Down => "down: ",
            },
            if status["passing"].is_u64() { &status["passing"] } else { &status["N"] },
            status["desired"],
            status["generation"],
            text_of(&status["engine"]),
            text_of(&status["operation"]),
            status["commands_waiting"]
        );
        if let Some(line) = roll_line(status) {
            let _ = writeln!(text, "{line}");
        }
        if status["panic"] == true {
            text.push_str("most replicas fail at once: living ones are not replaced for a while\n");
        }
        for replica in status["replicas"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "{}", replica_line(replica));
            logs::trouble(&mut text, replica);
            for instance in replica["instances"].as_array().into_iter().flatten() {
                put_instance(&mut text, instance);
            }
        }
        for instance in status["joining"].as_array().into_iter().flatten() {
            text.push_str("joining\n");
            put_instance(&mut text, instance);
        }
        put_processes(&mut text, status);
        text
    })?;
    Ok((text, health))
}

fn replica_line(replica: &Value) -> String {
    let mut line = format!("replica {} ({})", replica["id"], text_of(&replica["name"]));
    if let Some(place) = replica["registered_at"].as_str() {
        let _ = write!(line, ", registered at {place}");
    }
    if replica["drained"] == true {
        line.push_str(", drained");
    }
    line
}

/// The processes of the fleet, if there are several.
fn put_processes(text: &mut String, status: &Value) {
    let lease = &status["lease"];
    if lease.is_null() {
        return;
    }
    let (admin, store) = (text_of(&lease["admin"]), text_of(&status["store"]));
    let _ = writeln!(text, "supervised at {admin} (term {}), store {store}", lease["fence"]);
    for balancer in status["balancers"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "balancer {}: table {}, ring {}, heard {} ms ago{}",
            text_of(&balancer["id"]),
            text_of(&balancer["version"]),
            text_of(&balancer["digest"]),
            balancer["heartbeat_age_ms"],
            if balancer["live"] == false { ", silent" } else { "" }
        );
    }
}

fn roll_line(status: &Value) -> Option<String> {
    let roll = status["roll"].as_object()?;
    let (done, desired) = (&roll["done"], &status["desired"]);
    Some(match roll["state"].as_str()? {
        "stopped" => format!(
            "roll stopped, {done} of {desired} run what is wanted: {}; `ringmaster retry` tries again",
            roll.get("last_error").and_then(Value::as_str).unwrap_or("its newcomers failed")
        ),
        _ => format!("rolling, {done} of {desired} run what is wanted"),
    })
}

fn put_instance(text: &mut String, instance: &Value) {
    let reason = instance["reason"].as_str().map_or(String::new(), |r| format!(", {r}"));
    let kept = if instance["kept"] == true { ", kept in service although failing" } else { "" };
    let outdated = if instance["outdated"] == true { ", outdated" } else { "" };
    let line = format!(
        "  {:<24} incarnation {:<4} {}{reason}{kept}{outdated}  {}",
        text_of(&instance["name"]),
        instance["incarnation"],
        text_of(&instance["phase"]),
        instance["address"].as_str().unwrap_or("")
    );
    let _ = writeln!(text, "{}", line.trim_end());
    if let Some(why) = instance["last_probe"].as_str() {
        let _ = writeln!(text, "    {why}");
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("none")
}

fn names(list: &Value) -> Vec<String> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn show(
    as_json: bool,
    response: &Value,
    text: impl FnOnce(&Value) -> String,
) -> anyhow::Result<String> {
    if as_json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(response)?));
    }
    Ok(text(response))
}

/// The token of the flag or the environment, else the one of the file.
fn token_of(client: &AdminOptions) -> anyhow::Result<Option<Secret>> {
    let given = client.token.clone().filter(|token| !token.0.is_empty());
    let file = client.token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
    match (given, file) {
        (None, Some(path)) => Ok(Some(token_from(path)?)),
        (given, _) => Ok(given),
    }
}

async fn ask(
    client: &AdminOptions,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let url = format!("{}{path}", client.url.trim_end_matches('/'));
    // A proxy from the environment must not see commands and tokens.
    let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()?;
    let mut request = http.request(method, &url);
    if let Some(token) = token_of(client)? {
        request = request.bearer_auth(token.0);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.with_context(|| format!("no answer from {url}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("no whole answer from {url}"))?;
    let response: Value = serde_json::from_str(&text)
        .with_context(|| format!("{url} is not a Ringmaster ({status})"))?;
    if !status.is_success() {
        let why = response["message"].as_str().or(response["error"].as_str());
        let why = why.unwrap_or(status.as_str());
        // The message is printed with a mark of its own.
        bail!("{}", why.strip_prefix("<Error> ").unwrap_or(why));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_change_the_path() {
        assert_eq!(segment("user/42 é..").unwrap(), "user%2F42%20%C3%A9%2E%2E");
        for text in ["", ".", ".."] {
            let why = segment(text).unwrap_err().to_string();
            assert!(why.starts_with(&format!("'{text}' cannot be asked for")), "{why}");
        }
    }
}
