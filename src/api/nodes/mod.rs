//! The nodes API of a key-value front: `POST /node/add` and `POST /node/remove` with the address of
//! a node. Its answers are what that system's are: text, or nothing at all. `/set`, `/get` and
//! `/delete` are requests like any other.

mod address;
mod form;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use ringmaster_core::fleet::{
    command::{self, ScaleCommand, ScaleError},
    ids::ReplicaName,
    server::{Registration, Server},
};

use super::{
    request::{self, Refused, shortened},
    wire,
};
use crate::control::{Answered, Handle};

/// Names that are tried for a node; another request may take each of them first.
const NAMES_MAX: usize = 64;
/// What a request may say.
const KNOWN: &str = "address";

/// The routes. Only the exact paths are served.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/node/add", post(add).fallback(wrong_method))
        .route("/node/remove", post(remove).fallback(wrong_method))
        .with_state(handle)
}

async fn add(State(handle): State<Handle>, request: Request) -> Response {
    answer(async { add_node(&handle, asked(request).await?).await }.await)
}

async fn remove(State(handle): State<Handle>, request: Request) -> Response {
    answer(async { remove_node(&handle, &asked(request).await?).await }.await)
}

fn answer(result: Result<(), Refused>) -> Response {
    match result {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refused) => {
            let (status, why) = refused.describe();
            text(status, &why)
        }
    }
}

/// The node that a request names.
async fn asked(request: Request) -> Result<Server, Refused> {
    let values = form::values(request).await?;
    let address = address_of(values.into_iter())?;
    address::parse(&address).map_err(Refused::Bad)
}

fn address_of(values: impl Iterator<Item = (String, String)>) -> Result<String, Refused> {
    let mut address = None;
    for (key, value) in values {
        if key != KNOWN {
            let key = shortened(&key);
            return Err(Refused::bad(format!("'{key}' is not a parameter; known is {KNOWN}")));
        }
        address.get_or_insert(value);
    }
    let given = address.filter(|address| !address.is_empty());
    given.ok_or_else(|| Refused::bad("Address is required"))
}

/// Registers a node; one that is there already stays as it is.
async fn add_node(handle: &Handle, server: Server) -> Result<(), Refused> {
    let view = handle.view();
    if address::replica_at(&view, &server).is_some() {
        return Ok(());
    }
    let names = address::names(&server).filter(|name| !address::is_taken(&view, name));
    let mut taken = None;
    for name in names.take(NAMES_MAX) {
        let registration = Registration { name, weight: 1, server: server.clone() };
        let command = ScaleCommand::Register(vec![registration]);
        match carry_out(handle, command).await {
            // Another request was faster, with this node or with this name.
            Err(ScaleError::PlaceTaken { .. }) => return Ok(()),
            Err(error @ (ScaleError::Exists(_) | ScaleError::HostExists { .. })) => {
                taken = Some(error);
            }
            result => return result.map_err(Refused::Scale),
        }
    }
    let none_is_left = || Refused::bad("all names for this node are taken");
    Err(taken.map_or_else(none_is_left, Refused::Scale))
}

/// Removes a node; one that is not there is gone already.
async fn remove_node(handle: &Handle, server: &Server) -> Result<(), Refused> {
    let Some(name) = name_at(handle, server) else { return Ok(()) };
    let command = ScaleCommand::remove(1, vec![name]).map_err(Refused::Scale)?;
    match carry_out(handle, command).await {
        Err(ScaleError::Unknown(_)) => Ok(()),
        result => result.map_err(Refused::Scale),
    }
}

fn name_at(handle: &Handle, server: &Server) -> Option<ReplicaName> {
    address::replica_at(&handle.view(), server).map(|replica| replica.name.clone())
}

async fn carry_out(handle: &Handle, command: ScaleCommand) -> Result<(), ScaleError> {
    let request = command::Request { command, dry_run: false };
    match request::carry_out(handle, request).await {
        Some(Answered { answer, .. }) => answer.map(drop),
        None => Err(ScaleError::ShuttingDown),
    }
}

async fn wrong_method() -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// A failure as Go's `http.Error` writes it: one line of text, whose kind is not to be guessed.
fn text(status: StatusCode, why: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = (status, headers, format!("{why}\n")).into_response();
    wire::say_when(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn place(kind: Option<&str>, target: &str, body: &str) -> Result<String, String> {
        let mut request = axum::http::Request::builder().method("POST").uri(target);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let found = asked(request).await;
        found.map(|server| server.place()).map_err(|refused| refused.describe().1)
    }

    #[tokio::test]
    async fn the_address_is_in_the_form_or_in_the_query() {
        let form = Some("application/x-www-form-urlencoded; charset=utf-8");
        let encoded = "address=http%3A%2F%2F127.0.0.1%3A9001";
        for (kind, target, body, expected) in [
            (form, "/node/add", encoded, "127.0.0.1:9001"),
            (form, "/node/add", "address=http://a:1", "a:1"),
            (None, "/node/add?address=http://a:1", "", "a:1"),
            (form, "/node/add?address=http://a:1", "", "a:1"),
            (form, "/node/add?address=http://b:2", "address=http://a:1", "a:1"),
            (form, "/node/add", "address=http://a:1&address=http://b:2", "a:1"),
            // A body of another kind is not looked at.
            (Some("application/json"), "/node/add?address=http://a:1", "{}", "a:1"),
        ] {
            assert_eq!(place(kind, target, body).await, Ok(expected.into()), "{target} {body}");
        }
        for (kind, target, body, expected) in [
            (None, "/node/add", "", "Address is required"),
            (None, "/node/add", encoded, "Address is required"),
            (form, "/node/add", "address=", "Address is required"),
            (Some("application/json"), "/node/add", encoded, "Address is required"),
            (
                None,
                "/node/add?adress=http://a:1",
                "",
                "'adress' is not a parameter; known is address",
            ),
            (
                form,
                "/node/add",
                "address=http://a:1&n=1",
                "'n' is not a parameter; known is address",
            ),
            (
                None,
                "/node/add?address=nowhere",
                "",
                "'nowhere' is not an address like http://host:port: there is no port",
            ),
        ] {
            let refused = place(kind, target, body).await;
            assert_eq!(refused, Err(expected.into()), "{target} {body}");
        }
    }
    /// Parts of a form as curl sends them, each with its parameters and its text.
    fn parts(parts: &[(&str, &str)]) -> String {
        let part = |(parameters, text): &(&str, &str)| {
            format!("--b7\r\nContent-Disposition: form-data{parameters}\r\n\r\n{text}\r\n")
        };
        parts.iter().map(part).collect::<String>() + "--b7--\r\n"
    }

    const PARTS: &str = "multipart/form-data; boundary=b7";

    #[tokio::test]
    async fn the_address_is_in_a_part_of_the_form() {
        let named = |text| (r#"; name="address""#, text);
        let (one, two) = (named("http://a:1"), named("http://b:2"));
        for (kind, target, body, expected) in [
            (PARTS, "/node/add", parts(&[one]), "a:1"),
            (r#"Multipart/Form-Data; boundary="b7""#, "/node/add", parts(&[one]), "a:1"),
            (PARTS, "/node/add", parts(&[one, two]), "a:1"),
            (PARTS, "/node/add", parts(&[("; name=address", "http://a:1")]), "a:1"),
            // As Go's `FormValue` does, which goes the other way with an encoded form.
            (PARTS, "/node/add?address=http://b:2", parts(&[one]), "b:2"),
        ] {
            assert_eq!(place(Some(kind), target, &body).await, Ok(expected.into()), "{body}");
        }
    }

    #[tokio::test]
    async fn a_form_in_parts_that_cannot_be_understood_is_refused() {
        let one = parts(&[(r#"; name="address""#, "http://a:1")]);
        let cut = &one[..one.len() - 6];
        let unnamed = parts(&[("", "http://a:1")]);
        let file = parts(&[(r#"; name="address"; filename="x""#, "http://a:1")]);
        let other = parts(&[(r#"; name="n""#, "1")]);
        let empty = parts(&[(r#"; name="address""#, "")]);
        let long = parts(&[(r#"; name="address""#, &"x".repeat(70_000))]);
        let unreadable = "the form cannot be read: ";
        for (kind, body, expected) in [
            (PARTS, cut, unreadable),
            (PARTS, "", unreadable),
            (PARTS, "address=http://a:1", unreadable),
            ("multipart/form-data; boundary=other", &one, unreadable),
            ("multipart/form-data", &one, "the form has no boundary"),
            ("multipart/form-data; boundary", &one, "the form has no boundary"),
            (PARTS, &unnamed, "a part of the form has no name"),
            (PARTS, &file, "'address' is a file in this form, and must be a plain field"),
            (PARTS, &other, "'n' is not a parameter; known is address"),
            (PARTS, &empty, "Address is required"),
            (PARTS, &parts(&[]), "Address is required"),
            (PARTS, &long, "the body is larger than 65536 bytes"),
            ("multipart/mixed; boundary=b7", &one, "Address is required"),
        ] {
            let why = place(Some(kind), "/node/add", body).await.unwrap_err();
            assert!(why.starts_with(expected), "{kind} {:.80}: {why}", body);
        }
        // Nor does an address in the query make up for it.
        let why = place(Some(PARTS), "/node/add?address=http://a:1", cut).await.unwrap_err();
        assert!(why.starts_with(unreadable), "{why}");
    }
}
