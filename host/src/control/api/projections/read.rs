//! `GET /projections/{name}/…`: the read model that a handler serves of its state.

use axum::{
    extract::{OriginalUri, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;

use crate::{
    control::api::{parameters::Parameters, path_name, problem::Problem},
    events::handlers::EventHandlers,
    plugin::{ReadAnswer, ReadQuery},
};

/// Longest path and query of a read, as they came, in bytes: what RFC 9110 §4.1 asks everybody to support.
const URI_BYTES_MAX: usize = 8_000;

/// What the handler's plugin answers to this path, from its state as of one commit. Never waits for events to be handled.
#[utoipa::path(get, path = "/projections/{name}/{path}", tag = "projections",
    params(("name" = String, Path), ("path" = String, Path, description = "The read model's own; may have slashes")),
    responses((status = 200, description = "As the plugin answers"), (status = 404, body = Problem),
        (status = 502, body = Problem, description = "the plugin did not come back"), (status = 503, body = Problem)))]
pub async fn read(State(handlers): State<EventHandlers>, OriginalUri(uri): OriginalUri) -> Result<Response, Problem> {
    if uri.path_and_query().is_some_and(|given| given.as_str().len() > URI_BYTES_MAX) {
        let detail = format!("the path and query of a read have at most {URI_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, detail));
    }
    let below = uri.path().strip_prefix("/projections/").unwrap_or_default();
    let (name, path) = below.split_once('/').unwrap_or((below, ""));
    let mut query = ReadQuery { path: decoded(path)?, parameters: Vec::new() };
    Parameters::of(&uri).read(|name, value| {
        query.parameters.push((name.to_owned(), value.to_owned()));
        Ok(true)
    })?;
    let ReadAnswer { status, content_type, body } = handlers.read(&path_name(&decoded(name)?)?, query).await?;
    // What a plugin answers is no page of the gateway's.
    let no_sniffing = [(header::X_CONTENT_TYPE_OPTIONS, "nosniff"), (header::CONTENT_SECURITY_POLICY, "sandbox")];
    Ok((status, no_sniffing, [(header::CONTENT_TYPE, content_type)], body).into_response())
}

fn decoded(given: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(given).decode_utf8();
    let wrong = |_| Problem::new(StatusCode::BAD_REQUEST, "what is encoded in the path is not UTF-8");
    decoded.map(|text| text.into_owned()).map_err(wrong)
}
