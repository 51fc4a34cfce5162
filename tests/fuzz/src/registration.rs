//! No JSON may make the reader of registrations panic. What it takes is right in every field, and what it refuses it
//! refuses with a field and a reason for each problem.

use serde_json::Value;
use sluice::{
    control::api::entrance::{Filter, check as read_check, registration},
    registry::RegistryError,
};

pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What matches is of no interest, only that it ends.
    if let Ok(filter) = Filter::parse(&text) {
        filter.matches(&serde_json::json!({"Service": {"Tags": ["blue"]}}));
    }
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(data) else { return };
    match registration(object.clone()) {
        Ok(registration) => assert!(registration.problems().is_empty(), "{registration:?}"),
        Err(refused) => assert_reasons(refused),
    }
    match read_check(object) {
        Ok((_, check)) => assert!(check.problems().is_empty(), "{check:?}"),
        Err(refused) => assert_reasons(refused),
    }
}

fn assert_reasons(refused: RegistryError) {
    let RegistryError::Invalid(problems) = refused else { panic!("{refused}") };
    assert!(!problems.is_empty());
    assert!(problems.iter().all(|problem| !problem.field.is_empty() && !problem.message.is_empty()), "{problems:?}");
}
