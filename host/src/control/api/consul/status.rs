//! `/v1/status/`: a gateway is its own leader.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::{Value, json};

use super::{error::Error, query::Asked, reply};
use crate::control::handle::Control;

pub async fn leader(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    Ok(reply::json(&asked.query()?, &Value::from(control.address.to_string())))
}

pub async fn peers(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    Ok(reply::json(&asked.query()?, &json!([control.address.to_string()])))
}
