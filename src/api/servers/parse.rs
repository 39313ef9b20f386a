//! What the bodies of the servers API ask for, and the sentences that refuse them.

use std::sync::Arc;

use ringmaster_core::fleet::{
    ids::ReplicaName,
    server::{Registration, Server, ServerChange, Source},
};
use serde_json::{Map, Value};

use crate::api::request::{self, Refused, shortened};

/// What is said of a body that is no JSON object.
const NO_JSON: &str = "No JSON data provided";

/// The fields of a body, if it knows no others.
fn fields(body: &[u8], known: &[&str]) -> Result<Map<String, Value>, Refused> {
    let Ok(fields) = request::object(body) else { return Err(Refused::bad(NO_JSON)) };
    fields.only(known)
}

/// `{"name","address","port","weight":1}`.
pub(super) fn registration(body: &[u8]) -> Result<Registration, Refused> {
    let fields = fields(body, &["name", "address", "port", "weight"])?;
    let required = |key: &str| {
        fields.get(key).ok_or_else(|| Refused::bad(format!("Missing required field: {key}")))
    };
    let (name, address, port) = (required("name")?, required("address")?, required("port")?);
    let weight = fields.get("weight");
    if !is_integer(port) || weight.is_some_and(|weight| !is_integer(weight)) {
        return Err(Refused::bad("Port and weight must be integers"));
    }
    let (port, weight) = (port_of(port)?, weight.map_or(Ok(1), weight_of)?);
    let name = ReplicaName::new(text("Name", name)?).map_err(|e| Refused::bad(e.to_string()))?;
    Ok(Registration { name, weight, server: server(text("Address", address)?, port)? })
}

/// What a body changes of a server, and the names of these fields.
#[derive(Debug)]
pub(super) struct ParsedChange {
    pub(super) change: ServerChange,
    pub(super) fields: Vec<&'static str>,
}

/// `{"address","port","weight"}`, at least one of them.
pub(super) fn change(body: &[u8]) -> Result<ParsedChange, Refused> {
    const KNOWN: [&str; 3] = ["address", "port", "weight"];
    let fields = fields(body, &KNOWN)?;
    let named: Vec<_> = KNOWN.into_iter().filter(|key| fields.contains_key(*key)).collect();
    if named.is_empty() {
        return Err(Refused::bad(format!("name at least one of {}", KNOWN.join(", "))));
    }
    let integer = |key: &str, name: &str| match fields.get(key) {
        Some(value) if !is_integer(value) => {
            Err(Refused::bad(format!("{name} must be an integer")))
        }
        value => Ok(value),
    };
    let port = integer("port", "Port")?.map(port_of).transpose()?;
    let weight = integer("weight", "Weight")?.map(weight_of).transpose()?;
    let host = fields.get("address").map(|address| host(text("Address", address)?)).transpose()?;
    Ok(ParsedChange { change: ServerChange { host, port, weight }, fields: named })
}

/// `{"weight"}`.
pub(super) fn weight(body: &[u8]) -> Result<ParsedChange, Refused> {
    let fields = fields(body, &["weight"])?;
    let weight = match fields.get("weight") {
        None => Err(Refused::bad("Missing required field: weight")),
        Some(value) if !is_integer(value) => Err(Refused::bad("Weight must be an integer")),
        Some(value) => weight_of(value),
    };
    let change = ServerChange { weight: Some(weight?), ..ServerChange::default() };
    Ok(ParsedChange { change, fields: vec!["weight"] })
}

/// `{"healthy"}`.
pub(super) fn health(body: &[u8]) -> Result<bool, Refused> {
    const MISSING: &str = "Missing 'healthy' field in JSON data";
    let Ok(fields) = request::object(body) else { return Err(Refused::bad(MISSING)) };
    match fields.only(&["healthy"])?.get("healthy") {
        None => Err(Refused::bad(MISSING)),
        Some(Value::Bool(is_healthy)) => Ok(*is_healthy),
        Some(_) => Err(Refused::bad("'healthy' must be true or false")),
    }
}

/// What to ask a replica for, and by which key it is chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) key: String,
    /// Path and query; `/` where none is given.
    pub(super) path: String,
}

/// `{"key","path":"/"}`.
pub(super) fn route(body: &[u8]) -> Result<Route, Refused> {
    let fields = fields(body, &["key", "path"])?;
    let Some(key) = fields.get("key") else {
        return Err(Refused::bad("Missing required field: key"));
    };
    let key = match text("Key", key)? {
        "" => return Err(Refused::bad("Key must not be empty")),
        key => key.to_owned(),
    };
    let path = fields.get("path").map_or(Ok("/"), |path| text("Path", path))?;
    let parsed = path.parse::<http::uri::PathAndQuery>();
    // A fragment would be cut off without a word.
    let is_path = path.starts_with('/') && !path.contains('#') && parsed.is_ok();
    if !is_path {
        let shown = shortened(path);
        return Err(Refused::bad(format!(
            "Path must be a path that starts with '/', not '{shown}'"
        )));
    }
    Ok(Route { key, path: path.to_owned() })
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

fn port_of(value: &Value) -> Result<u16, Refused> {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
    port.ok_or_else(|| Refused::bad("Port must be between 1 and 65535"))
}

fn weight_of(value: &Value) -> Result<u32, Refused> {
    match value.as_u64() {
        None | Some(0) => Err(Refused::bad("Weight must be positive")),
        Some(weight) => u32::try_from(weight)
            .map_err(|_| Refused::bad(format!("Weight must be at most {}", u32::MAX))),
    }
}

fn text<'a>(name: &str, value: &'a Value) -> Result<&'a str, Refused> {
    value.as_str().ok_or_else(|| Refused::bad(format!("{name} must be a text")))
}

fn server(host: &str, port: u16) -> Result<Server, Refused> {
    Server::new(host, port, Source::Operator)
        .map_err(|error| Refused::bad(format!("Address '{}': {error}", shortened(host))))
}

fn host(text: &str) -> Result<Arc<str>, Refused> {
    // Any port will do to check the host.
    server(text, 1).map(|server| server.host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why<T>(result: Result<T, Refused>) -> String {
        match result {
            Err(Refused::Bad(why)) => why,
            _ => panic!("it was not refused"),
        }
    }

    fn read<T>(result: Result<T, Refused>) -> T {
        result.unwrap_or_else(|_| panic!("it was refused"))
    }

    #[test]
    fn registrations_are_read() {
        let body = br#"{"name": "server3", "address": "192.168.1.12", "port": 8080, "weight": 2}"#;
        let found = read(registration(body));
        assert_eq!((found.name.as_str(), found.weight), ("server3", 2));
        assert_eq!(found.server.place(), "192.168.1.12:8080");
        let found = read(registration(br#"{"name":"a","address":"[::1]","port":65535}"#));
        assert_eq!((found.weight, found.server.place().as_str()), (1, "[::1]:65535"));
    }

    #[test]
    fn registrations_are_refused_in_the_words_of_the_contract() {
        let integers = "Port and weight must be integers";
        let port = "Port must be between 1 and 65535";
        for (body, expected) in [
            ("", NO_JSON),
            ("{", NO_JSON),
            ("[]", NO_JSON),
            ("{}", "Missing required field: name"),
            (r#"{"name":"a"}"#, "Missing required field: address"),
            (r#"{"name":"a","address":"b"}"#, "Missing required field: port"),
            (r#"{"name":"a","address":"b","port":"80"}"#, integers),
            (r#"{"name":"a","address":"b","port":80.5}"#, integers),
            (r#"{"name":"a","address":"b","port":true}"#, integers),
            (r#"{"name":"a","address":"b","port":80,"weight":"1"}"#, integers),
            (r#"{"name":"a","address":"b","port":80,"weight":null}"#, integers),
            (r#"{"name":"a","address":"b","port":0}"#, port),
            (r#"{"name":"a","address":"b","port":-1}"#, port),
            (r#"{"name":"a","address":"b","port":65536}"#, port),
            (r#"{"name":"a","address":"b","port":80,"weight":0}"#, "Weight must be positive"),
            (r#"{"name":"a","address":"b","port":80,"weight":-2}"#, "Weight must be positive"),
            (
                r#"{"name":"a","address":"b","port":80,"weight":4294967296}"#,
                "Weight must be at most 4294967295",
            ),
            (r#"{"name":1,"address":"b","port":80}"#, "Name must be a text"),
            (r#"{"name":"a","address":1,"port":80}"#, "Address must be a text"),
            (
                r#"{"name":"a","address":"http://b","port":80}"#,
                "Address 'http://b': the host is not a hostname or an address",
            ),
            (
                r#"{"name":"a","address":"b","port":80,"wait":1}"#,
                "'wait' is not one of name, address, port, weight",
            ),
            (r#"{"name":"a","name":"b","address":"b","port":80}"#, "'name' is given twice"),
        ] {
            assert_eq!(why(registration(body.as_bytes())), expected, "{body}");
        }
        let bad = why(registration(br#"{"name":"a b","address":"b","port":80}"#));
        assert!(bad.starts_with("'a b' is not a valid name"), "{bad}");
    }

    #[test]
    fn changes_name_what_they_change() {
        let found = read(change(br#"{"weight":3,"address":"[::1]"}"#));
        assert_eq!(found.fields, ["address", "weight"]);
        let expected = ServerChange { host: Some("::1".into()), port: None, weight: Some(3) };
        assert_eq!(found.change, expected);
        for (body, expected) in [
            ("", NO_JSON),
            ("{}", "name at least one of address, port, weight"),
            (r#"{"port":"1"}"#, "Port must be an integer"),
            (r#"{"port":0}"#, "Port must be between 1 and 65535"),
            (r#"{"weight":1.5}"#, "Weight must be an integer"),
            (r#"{"address":""}"#, "Address '': the host is not a hostname or an address"),
            (r#"{"name":"b"}"#, "'name' is not one of address, port, weight"),
        ] {
            assert_eq!(why(change(body.as_bytes())), expected, "{body}");
        }
    }

    #[test]
    fn weights_are_refused_in_the_words_of_the_contract() {
        assert_eq!(read(weight(br#"{"weight":3}"#)).change.weight, Some(3));
        assert_eq!(why(weight(b"")), NO_JSON);
        assert_eq!(why(weight(b"{}")), "Missing required field: weight");
        assert_eq!(why(weight(br#"{"weight":0}"#)), "Weight must be positive");
        assert_eq!(why(weight(br#"{"weight":-1}"#)), "Weight must be positive");
        let too_large = why(weight(br#"{"weight":4294967296}"#));
        assert_eq!(too_large, "Weight must be at most 4294967295");
        assert_eq!(why(weight(br#"{"weight":1.5}"#)), "Weight must be an integer");
        assert_eq!(why(weight(br#"{"weight":1,"wait":1}"#)), "'wait' is not one of weight");
        assert_eq!(why(weight(br#"{"weight":1,"weight":2}"#)), "'weight' is given twice");
    }

    #[test]
    fn verdicts_are_true_or_false() {
        assert!(read(health(br#"{"healthy":true}"#)));
        assert!(!read(health(br#"{"healthy":false}"#)));
        for body in ["", "[]", "{}"] {
            assert_eq!(why(health(body.as_bytes())), "Missing 'healthy' field in JSON data");
        }
        for body in [r#"{"healthy":1}"#, r#"{"healthy":"true"}"#, r#"{"healthy":null}"#] {
            assert_eq!(why(health(body.as_bytes())), "'healthy' must be true or false");
        }
    }

    #[test]
    fn routes_have_a_key_and_a_path() {
        let found = read(route(br#"{"key": "user123", "path": "/api/data"}"#));
        assert_eq!(found, Route { key: "user123".into(), path: "/api/data".into() });
        assert_eq!(read(route(br#"{"key":"a"}"#)).path, "/");
        assert_eq!(read(route(br#"{"key":"a","path":"/a?b=c&d"}"#)).path, "/a?b=c&d");
        for (body, expected) in [
            ("", NO_JSON),
            ("{}", "Missing required field: key"),
            (r#"{"key":1}"#, "Key must be a text"),
            (r#"{"key":""}"#, "Key must not be empty"),
            (r#"{"key":"a","path":1}"#, "Path must be a text"),
            (r#"{"key":"a","url":"/"}"#, "'url' is not one of key, path"),
        ] {
            assert_eq!(why(route(body.as_bytes())), expected, "{body}");
        }
        for path in ["", "a", "http://other/a", "/a b", "/a#b", "/a\\r\\nX: y", "*"] {
            let found = why(route(format!(r#"{{"key":"a","path":"{path}"}}"#).as_bytes()));
            assert!(found.starts_with("Path must be a path that starts with '/'"), "{found}");
        }
    }
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-2..70_000_i64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z0-9.:/\\[\\] ]{0,12}".prop_map(Value::from),
            Just(Value::Array(Vec::new())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_read_is_within_its_bounds_and_what_is_not_has_a_sentence(
            name in value(), address in value(), port in value(), weight in value(),
        ) {
            let body = serde_json::json!({
                "name": name, "address": address, "port": port, "weight": weight,
            });
            match registration(body.to_string().as_bytes()) {
                Ok(found) => {
                    prop_assert!(found.weight >= 1 && found.server.port >= 1);
                    prop_assert_eq!(Some(found.name.as_str()), name.as_str());
                    prop_assert_eq!(Some(u64::from(found.server.port)), port.as_u64());
                    prop_assert_eq!(Some(u64::from(found.weight)), weight.as_u64());
                }
                Err(Refused::Bad(why)) => prop_assert!((1..300).contains(&why.len()), "{}", why),
                Err(_) => prop_assert!(false, "a parser says only what is wrong"),
            }
        }

        #[test]
        fn no_bytes_make_a_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (registration(&body), change(&body), weight(&body), health(&body));
            let _ = route(&body);
        }
    }
}
