//! Events as CloudEvents 1.0.2 has them on the wire: in JSON (one, or a batch), and as an HTTP message of headers and body.
//!
//! What comes in is looked at whole: every attribute that is wrong is told by its name, and where one is, nothing of what
//! came with it is taken. What goes out has three extension attributes of our own, `stream`, `revision` and `position`
//! (decimal text); where an author gave them, `stream` says where the event belongs and the others are dropped, so that
//! what was read can be appended elsewhere.
//!
//! | `datacontenttype` | in JSON |
//! | --- | --- |
//! | JSON, by its subtype | `data` is the value as it came: numbers keep their digits |
//! | `text/…` | `data` is a string |
//! | any other, or data that is not what its type says | `data_base64` |
//!
//! An event in JSON without `datacontenttype` has the type `application/json` (JSON format, 3.1), and is kept with it.

mod binary;
mod data;
mod json;
mod problem;
mod reading;

pub use binary::{BINARY_PREFIX, read_binary, to_binary};
pub use data::is_json;
pub use json::{Members, read_batch, read_one, to_json, write_json};
pub use problem::{AttributeProblem, Refused};

use crate::model::{Draft, StreamName};

/// The only version there is in use.
pub const SPEC_VERSION: &str = "1.0";

/// Of one event in JSON.
pub const JSON_TYPE: &str = "application/cloudevents+json";

/// Of a list of them.
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// An event from outside, and the stream that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub stream: StreamName,
    pub draft: Draft,
}

#[cfg(test)]
mod tests;
