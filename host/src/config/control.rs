//! `[control]`: the listener for operators and for services.

use super::{
    defaults,
    reader::{Table, Value},
};
use crate::model::ControlOptions;

pub(super) fn read(root: &mut Table<'_>) -> ControlOptions {
    let mut options =
        ControlOptions { address: defaults::CONTROL_ADDRESS, operator_token_file: None, service_token_file: None };
    let Some(mut table) = root.read("control", |value| value.table("a table: [control]")) else {
        return options;
    };
    let address = table.get("address");
    if let Some(given) = address.as_ref().and_then(Value::listen_address) {
        options.address = given;
    }
    let token_file_given = table.has("operator_token_file");
    options.operator_token_file = table.read("operator_token_file", Value::readable_file);
    if !options.address.ip().is_loopback()
        && !token_file_given
        && let Some(value) = address
    {
        value.refuse(format_args!(
            "{} can be reached from other machines: give operator_token_file = \"…\" too, or a loopback address",
            options.address
        ));
    }
    options.service_token_file = table.read("service_token_file", Value::readable_file);
    if !token_file_given
        && options.service_token_file.is_some()
        && let Some(value) = table.get("service_token_file")
    {
        value.refuse("needs operator_token_file too: without it everybody is an operator");
    }
    table.not_yet(&["tls"]);
    table.finish();
    options
}
