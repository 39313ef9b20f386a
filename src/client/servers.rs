//! Lists, registers, drains and removes servers.

use std::fmt::Write;

use reqwest::Method;
use serde_json::{Value, json};

use super::{ask, confirm, draw, segment, show, text_of, with_dry_run};
use crate::cli::{AdminOptions, RegisterServer, RemoveServer, ServerAction, Servers};

/// Lists the servers, or changes one.
///
/// # Errors
/// The balancer cannot be reached, or refuses, or the person at the terminal declines.
pub async fn servers(servers: &Servers, as_json: bool) -> anyhow::Result<String> {
    match &servers.action {
        None => {
            let response = ask(&servers.client, Method::GET, "/api/servers", None).await?;
            show(as_json, &response, list)
        }
        Some(ServerAction::Add(add)) => register(add, as_json).await,
        Some(ServerAction::Rm(remove)) => rm(remove, as_json).await,
        Some(ServerAction::Drain(one)) => mark(&one.client, "drain", &one.name, as_json).await,
        Some(ServerAction::Enable(one)) => mark(&one.client, "enable", &one.name, as_json).await,
    }
}

async fn register(add: &RegisterServer, as_json: bool) -> anyhow::Result<String> {
    let body = json!({
        "name": add.name,
        "address": add.place.host,
        "port": add.place.port,
        "weight": add.weight,
    });
    let path = with_dry_run("/api/servers", add.dry_run);
    let response = ask(&add.client, Method::POST, &path, Some(body)).await?;
    show(as_json, &response, |response| {
        let mut text = done(response, add.dry_run);
        if let Some(why) = response["server"]["last_error"].as_str() {
            let _ = writeln!(text, "it gets no requests yet: {why}");
        }
        text
    })
}

async fn rm(remove: &RemoveServer, as_json: bool) -> anyhow::Result<String> {
    let path = format!("/api/servers/{}", segment(&remove.name)?);
    if !remove.yes && !remove.dry_run && confirm::is_possible() {
        let preview = with_dry_run(&path, true);
        let preview = ask(&remove.client, Method::DELETE, &preview, None).await?;
        confirm::confirm(&preview["message"])?;
    }
    let path = with_dry_run(&path, remove.dry_run);
    let response = ask(&remove.client, Method::DELETE, &path, None).await?;
    show(as_json, &response, |response| done(response, remove.dry_run))
}

async fn mark(
    client: &AdminOptions,
    verb: &str,
    name: &str,
    as_json: bool,
) -> anyhow::Result<String> {
    let path = format!("/manage/{verb}/{}", segment(name)?);
    let response = ask(client, Method::POST, &path, None).await?;
    show(as_json, &response, |response| done(response, false))
}

fn done(response: &Value, is_dry_run: bool) -> String {
    match is_dry_run {
        true => draw::change(&response["message"], true),
        false => format!("{}\n", response["message"].as_str().unwrap_or("done")),
    }
}

fn list(response: &Value) -> String {
    let servers: Vec<&Value> = response["servers"].as_array().into_iter().flatten().collect();
    let place = |server: &Value| {
        let url = server["url"].as_str().unwrap_or_default();
        url.strip_prefix("http://").unwrap_or(url).to_owned()
    };
    let widest = |text: &dyn Fn(&Value) -> String| {
        servers.iter().map(|server| text(server).len()).max().unwrap_or(0)
    };
    let (name, at) = (widest(&|server| text_of(&server["name"]).to_owned()), widest(&place));
    let mut text =
        format!("{} of {} healthy\n", response["healthy_count"], response["total_count"]);
    for server in servers {
        let state = match (server["drained"] == true, server["healthy"] == true) {
            (true, _) => "drained",
            (false, true) => "healthy",
            (false, false) => "unhealthy",
        };
        let keeper = if server["registered"] == true { "registered" } else { "ours" };
        let _ = writeln!(
            text,
            "{:<name$}  {:<at$}  weight {:<4} {state:<9}  {keeper:<10}  {} requests, {} errors, {:.1} ms",
            text_of(&server["name"]),
            place(server),
            // As a text, because a JSON number ignores the width.
            server["weight"].to_string(),
            server["request_count"],
            server["error_count"],
            server["average_response_time"].as_f64().unwrap_or(0.0) * 1_000.0,
        );
        if let Some(why) = server["last_error"].as_str() {
            let _ = writeln!(text, "    {why}");
        }
    }
    for why in response["incomplete"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "a part of the figures is missing: {}", text_of(why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_listed_with_their_trouble() {
        let text = list(&json!({
            "healthy_count": 1, "total_count": 3, "incomplete": ["the balancer b: away"],
            "servers": [
                {"name": "a", "url": "http://10.0.0.1:80", "weight": 1, "healthy": true,
                 "registered": true, "request_count": 7, "error_count": 1,
                 "average_response_time": 0.0123},
                {"name": "long", "url": "http://[::1]:8080", "weight": 12, "healthy": false,
                 "registered": true, "drained": true, "request_count": 0, "error_count": 0,
                 "average_response_time": 0.0, "last_error": "connection refused"},
                {"name": "server_1", "url": null, "weight": 1, "healthy": false,
                 "registered": false, "request_count": 0, "error_count": 0,
                 "average_response_time": 0.0},
            ],
        }));
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "1 of 3 healthy",
                "a 10.0.0.1:80 weight 1 healthy registered 7 requests, 1 errors, 12.3 ms",
                "long [::1]:8080 weight 12 drained registered 0 requests, 0 errors, 0.0 ms",
                "connection refused",
                "server_1 weight 1 unhealthy ours 0 requests, 0 errors, 0.0 ms",
                "a part of the figures is missing: the balancer b: away",
            ]
        );
    }
}
