//! The routes, with their responses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rand::rngs::StdRng;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::body::{self, BodyError, Pattern, Payload};
use crate::delay::{DELAY_MAX, Delay};
use crate::settings::Settings;
use crate::store::{Full as StoreFull, Store};

type RouteResponse = Response<Payload>;

const MAX_KEYS: usize = 65_536;
const MAX_STORED_BYTES: usize = 32 * 1024 * 1024;
const MAX_STREAM_BYTES: u64 = 1 << 30;
const MAX_STREAM_CHUNK: u64 = 1024 * 1024;

/// The header that marks a 404 about data, as opposed to one about a path that does not exist.
const KEEP_STATUS: HeaderName = HeaderName::from_static("ringmaster-keep-status");

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct App {
    server_id: String,
    replica: Option<u64>,
    incarnation: Option<u64>,
    process_delay: Delay,
    random: Mutex<StdRng>,
    /// The whole body of `/home`, which never changes.
    home: Bytes,
    healthy: AtomicBool,
    store: Mutex<Store>,
}

impl App {
    /// `random` draws the delays.
    pub(crate) fn new(settings: &Settings, random: StdRng) -> App {
        let home = json!({
            "message": format!("Hello from Server: {}", settings.server_id),
            "status": "successful",
        });
        App {
            server_id: settings.server_id.clone(),
            replica: settings.replica,
            incarnation: settings.incarnation,
            process_delay: settings.process_delay,
            random: Mutex::new(random),
            home: Bytes::from(home.to_string()),
            healthy: AtomicBool::new(true),
            store: Mutex::new(Store::new(MAX_KEYS, MAX_STORED_BYTES)),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // The map is valid after a panic, because every change is one call.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw_delay(&self) -> Duration {
        // Every state of a generator is valid.
        self.process_delay.draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Handles one request; an error becomes a response too.
pub(crate) async fn answer(app: &App, request: Request<Incoming>) -> RouteResponse {
    // A HEAD is a GET whose body hyper leaves out.
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let result = match (request.method(), request.uri().path()) {
        (_, "/home") if read => Ok(json_answer(StatusCode::OK, app.home.clone())),
        (_, "/heartbeat") if read => Ok(Response::new(Either::Left(Full::default()))),
        (_, "/health") if read => Ok(health(app.healthy.load(Ordering::Relaxed))),
        (&Method::GET, "/toggle-health") => Ok(toggle_health(app)),
        (&Method::GET | &Method::POST, "/process") => process(app, request).await,
        (&Method::POST, "/set") => set(app, request).await,
        (_, "/get") if read => get(app, request).await,
        (&Method::POST | &Method::DELETE, "/delete") => delete(app, request).await,
        (_, "/headers") if read => Ok(headers(&request)),
        (_, "/stream") if read => stream(&request),
        (&Method::POST, "/echo") => Ok(echo(request)),
        (method, path) => Ok(value_answer(
            StatusCode::NOT_FOUND,
            &json!({
                "message": format!("<Error> '{path}' endpoint does not exist for {method}"),
                "status": "failure",
            }),
        )),
    };
    result.unwrap_or_else(|refusal| *refusal)
}

/// A refusal is boxed: it is rare, and it would double the size of every result.
type Outcome = Result<RouteResponse, Box<RouteResponse>>;

fn health(healthy: bool) -> RouteResponse {
    let (status, text) = if healthy {
        (StatusCode::OK, r#"{"status":"healthy"}"#)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"unhealthy"}"#)
    };
    json_answer(status, Bytes::from_static(text.as_bytes()))
}

/// The toggle succeeds either way, so the status is 200 for both states.
fn toggle_health(app: &App) -> RouteResponse {
    let mut answer = health(!app.healthy.fetch_not(Ordering::Relaxed));
    *answer.status_mut() = StatusCode::OK;
    answer
}

async fn process(app: &App, request: Request<Incoming>) -> Outcome {
    let delay = match query(&request, "delay_ms") {
        None => app.draw_delay(),
        Some(text) => {
            let asked = whole_number("delay_ms", &text)?;
            Duration::from_millis(asked).min(DELAY_MAX)
        }
    };
    body::read(request).await.map_err(refuse_body)?;
    tokio::time::sleep(delay).await;
    let done = json!({
        "message": format!("Processed by Server: {}", app.server_id),
        "server_id": app.server_id,
        "replica": app.replica,
        "incarnation": app.incarnation,
        "delay_ms": u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        "status": "successful",
    });
    Ok(value_answer(StatusCode::OK, &done))
}

#[derive(Deserialize)]
struct SetRequest {
    #[serde(default)]
    key: String,
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
}

/// Without this, serde would take a stored `null` for a missing value.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(input).map(Some)
}

#[derive(Deserialize)]
struct KeyRequest {
    #[serde(default)]
    key: String,
}

#[derive(Serialize)]
struct Done<'a> {
    success: bool,
    value: &'a RawValue,
    message: &'static str,
}

async fn set(app: &App, request: Request<Incoming>) -> Outcome {
    let text = body::read(request).await.map_err(refuse_body)?;
    let SetRequest { key, value } = parse(&text)?;
    let key = not_empty(key)?;
    let value = value.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "Value is missing"))?;
    let stored = app.store().set(key, value.clone());
    stored.map_err(|StoreFull { max_keys, max_bytes }| {
        refuse(
            StatusCode::INSUFFICIENT_STORAGE,
            &format!("The store is full (at most {max_keys} keys and {max_bytes} bytes)"),
        )
    })?;
    Ok(done(&value, "Key set"))
}

async fn get(app: &App, request: Request<Incoming>) -> Outcome {
    let key = key_of(request).await?;
    match app.store().get(&key) {
        Some(value) => Ok(done(value, "Key found")),
        None => Err(key_not_found()),
    }
}

async fn delete(app: &App, request: Request<Incoming>) -> Outcome {
    let key = key_of(request).await?;
    let removed = app.store().delete(&key);
    match removed {
        Some(value) => Ok(done(&value, "Key deleted")),
        None => Err(key_not_found()),
    }
}

/// The key from the query, or else from a JSON body.
async fn key_of(request: Request<Incoming>) -> Result<String, Box<RouteResponse>> {
    if let Some(key) = query(&request, "key") {
        return not_empty(key);
    }
    let text = body::read(request).await.map_err(refuse_body)?;
    if text.is_empty() {
        return not_empty(String::new());
    }
    let KeyRequest { key } = parse(&text)?;
    not_empty(key)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Box<RouteResponse>> {
    serde_json::from_slice(text).map_err(|_| refuse(StatusCode::BAD_REQUEST, "Invalid JSON format"))
}

fn not_empty(key: String) -> Result<String, Box<RouteResponse>> {
    if key.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "Key cannot be empty"));
    }
    Ok(key)
}

fn key_not_found() -> Box<RouteResponse> {
    let mut answer = refuse(StatusCode::NOT_FOUND, "Key not found");
    answer.headers_mut().insert(KEEP_STATUS, HeaderValue::from_static("1"));
    answer
}

fn headers(request: &Request<Incoming>) -> RouteResponse {
    let mut fields: serde_json::Map<String, Value> = serde_json::Map::new();
    for (name, value) in request.headers() {
        let values = fields.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(Value::from(String::from_utf8_lossy(value.as_bytes())));
        }
    }
    let echo = json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": fields,
    });
    value_answer(StatusCode::OK, &echo)
}

fn stream(request: &Request<Incoming>) -> Outcome {
    let bounded = |name: &str, default: u64, range: std::ops::RangeInclusive<u64>| {
        let Some(text) = query(request, name) else {
            return Ok(default);
        };
        let number = whole_number(name, &text)?;
        if range.contains(&number) {
            return Ok(number);
        }
        let sentence = format!("{name} must be from {} to {}", range.start(), range.end());
        Err(refuse(StatusCode::BAD_REQUEST, &sentence))
    };
    let bytes = bounded("bytes", 1024 * 1024, 0..=MAX_STREAM_BYTES)?;
    let chunk = bounded("chunk", 16 * 1024, 1..=MAX_STREAM_CHUNK)?;
    // At most MAX_STREAM_CHUNK, so it fits a usize.
    let mut answer =
        Response::new(Either::Right(Either::Right(Pattern::new(bytes, chunk as usize))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// Sends the body back while it arrives. It is never buffered, so it may have any length.
fn echo(request: Request<Incoming>) -> RouteResponse {
    let (head, body) = request.into_parts();
    let mut answer = Response::new(Either::Right(Either::Left(body)));
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        answer.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    answer
}

/// The first value of a query parameter, decoded.
fn query(request: &Request<Incoming>, name: &str) -> Option<String> {
    form_urlencoded::parse(request.uri().query()?.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn whole_number(name: &str, text: &str) -> Result<u64, Box<RouteResponse>> {
    text.parse().map_err(|_| {
        refuse(StatusCode::BAD_REQUEST, &format!("{name} must be a whole number, not {text:?}"))
    })
}

fn done(value: &RawValue, message: &'static str) -> RouteResponse {
    value_answer(StatusCode::OK, &Done { success: true, value, message })
}

fn refuse(status: StatusCode, error: &str) -> Box<RouteResponse> {
    #[derive(Serialize)]
    struct Refusal<'a> {
        success: bool,
        error: &'a str,
    }
    Box::new(value_answer(status, &Refusal { success: false, error }))
}

fn refuse_body(error: BodyError) -> Box<RouteResponse> {
    match error {
        BodyError::TooLarge => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("The body is larger than {} bytes", body::MAX_BODY),
        ),
        BodyError::TooSlow => {
            refuse(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")
        }
        BodyError::Broken => refuse(StatusCode::BAD_REQUEST, "The body could not be read"),
    }
}

fn value_answer(status: StatusCode, value: &impl Serialize) -> RouteResponse {
    // Serialising fails only for maps with keys that are not text, and there are none.
    json_answer(status, Bytes::from(serde_json::to_vec(value).unwrap_or_default()))
}

fn json_answer(status: StatusCode, text: Bytes) -> RouteResponse {
    let mut answer = Response::new(Either::Left(Full::new(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
