//! The values of a request, wherever a form or the query has them: in the order of Go's `FormValue`,
//! whose callers this API was made for.

use axum::{
    body::Body,
    extract::{FromRequest, Multipart, Request, multipart::MultipartError},
    http::{HeaderMap, header},
};

use crate::api::request::{self, Refused, shortened};

type Values = Vec<(String, String)>;

/// What a body is.
enum Kind {
    /// `a=1&b=2`.
    Encoded,
    /// Parts, each with a head of its own.
    Parts,
    /// No form: it is not looked at.
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.map_or("", |kind| kind.split(';').next().unwrap_or_default().trim());
        let is = |known: &str| kind.eq_ignore_ascii_case(known);
        match (is("application/x-www-form-urlencoded"), is("multipart/form-data")) {
            (true, _) => Self::Encoded,
            (_, true) => Self::Parts,
            _ => Self::Other,
        }
    }
}

/// All values; the first one of a name counts.
pub(super) async fn values(request: Request) -> Result<Values, Refused> {
    let (head, body) = request.into_parts();
    let query = decoded(head.uri.query().unwrap_or_default().as_bytes());
    Ok(match Kind::of(&head.headers) {
        Kind::Encoded => [decoded(&request::read(body).await?), query].concat(),
        Kind::Parts => {
            // Whole, within the bounds of every body, before it is taken apart.
            let body = Body::from(request::read(body).await?);
            [query, parts(Request::from_parts(head, body)).await?].concat()
        }
        Kind::Other => query,
    })
}

fn decoded(text: &[u8]) -> Values {
    form_urlencoded::parse(text).into_owned().collect()
}

async fn parts(request: Request) -> Result<Values, Refused> {
    let no_boundary = |_| {
        let why = "the form has no boundary: the Content-Type must say one, as in \
                   'multipart/form-data; boundary=x'";
        Refused::bad(why)
    };
    let mut form = Multipart::from_request(request, &()).await.map_err(no_boundary)?;
    let mut values = Vec::new();
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        let Some(name) = part.name().map(str::to_owned) else {
            return Err(Refused::bad("a part of the form has no name"));
        };
        if part.file_name().is_some() {
            let name = shortened(&name);
            let why = format!("'{name}' is a file in this form, and must be a plain field");
            return Err(Refused::bad(why));
        }
        values.push((name, part.text().await.map_err(unreadable)?));
    }
    Ok(values)
}

fn unreadable(error: MultipartError) -> Refused {
    Refused::bad(format!("the form cannot be read: {}", shortened(&error.body_text())))
}
