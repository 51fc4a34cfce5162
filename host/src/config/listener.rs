//! `[[listener]]`: where clients connect.

use std::net::SocketAddr;

use super::{
    reader::{Table, Value},
    root::same_port,
};
use crate::model::ListenerOptions;

const WANTED: &str = "a list of tables: [[listener]]";

pub(super) fn read(root: &mut Table<'_>, control: SocketAddr) -> Vec<ListenerOptions> {
    let Some(section) = root.get("listener") else {
        root.refuse("no [[listener]] is given; at least one is needed, such as address = \"127.0.0.1:8080\"");
        return Vec::new();
    };
    let items = section.items(WANTED).unwrap_or_default();
    if items.is_empty() && section.value.is_array() {
        section.refuse("is empty; at least one listener is needed, such as address = \"127.0.0.1:8080\"");
    }
    let mut listeners: Vec<ListenerOptions> = Vec::new();
    for item in &items {
        let Some(mut table) = item.table("a table: [[listener]]") else { continue };
        let taken = |address| {
            let earlier = listeners.iter().any(|listener| same_port(listener.address, address));
            earlier.then_some("another listener").or(same_port(control, address).then_some("the control listener"))
        };
        let address = table.require("address", "\"127.0.0.1:8080\"", |value| free_address(value, taken));
        table.not_yet(&["tls"]);
        table.finish();
        listeners.extend(address.map(|address| ListenerOptions { address }));
    }
    listeners
}

pub(super) fn free_address(
    value: &Value<'_>,
    taken: impl Fn(SocketAddr) -> Option<&'static str>,
) -> Option<SocketAddr> {
    let address = value.listen_address()?;
    if let Some(by) = taken(address) {
        value.refuse(format_args!("{address} is the address of {by} already"));
        return None;
    }
    Some(address)
}
