//! Configurations for tests: a test writes the part that it is about, the rest is filled in.

use std::{net::SocketAddr, path::Path};

use toml::{Table, Value, value::Array};

/// Any port: the gateway says which in its log.
const ANY_PORT: &str = "127.0.0.1:0";

/// Workers where the test does not say: more than one, so that what is forgotten between workers shows.
const WORKERS: i64 = 2;

/// Fills in what `text` leaves out: workers, the data folder, one listener, the control listener.
pub(crate) fn complete(text: &str, data_dir: &Path) -> String {
    let mut root: Table = text.parse().unwrap_or_else(|error| panic!("the test's configuration: {error}\n{text}"));
    let gateway = table(&mut root, "gateway");
    gateway.entry("workers").or_insert(Value::Integer(WORKERS));
    gateway.entry("data_dir").or_insert(Value::String(data_dir.display().to_string()));
    table(&mut root, "control").entry("address").or_insert(ANY_PORT.into());
    let listener = Table::from_iter([("address".to_owned(), Value::from(ANY_PORT))]);
    root.entry("listener").or_insert(Value::Array(Array::from_iter([Value::Table(listener)])));
    toml::to_string(&root).expect("a table read from TOML can be written as TOML")
}

/// How many addresses the configuration listens on for traffic.
pub(crate) fn listener_count(text: &str) -> usize {
    let root: Table = text.parse().expect("checked by the caller");
    root.get("listener").and_then(Value::as_array).map_or(0, Vec::len)
}

/// `endpoints = […]` of these addresses.
pub fn endpoints(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|address| format!("{:?}", address.to_string())).collect();
    format!("endpoints = [{}]", quoted.join(", "))
}

/// A service with these endpoints; `more` are further lines of its table.
pub fn service(name: &str, addresses: &[SocketAddr], more: &str) -> String {
    format!("[services.{name}]\n{}\n{more}\n", endpoints(addresses))
}

/// A service with these endpoints and a route that gives it everything.
pub fn any_route(name: &str, addresses: &[SocketAddr], more: &str) -> String {
    format!("{}[[route]]\npath = \"/\"\nservice = {name:?}\n", service(name, addresses, more))
}

fn table<'a>(root: &'a mut Table, key: &str) -> &'a mut Table {
    let entry = root.entry(key).or_insert(Value::Table(Table::new()));
    entry.as_table_mut().unwrap_or_else(|| panic!("the test's configuration: [{key}] must be a table"))
}
