//! The whole file: its sections, and what must hold between them.

use std::{net::SocketAddr, path::Path};

use toml::de::{DeTable, Error};

use super::{
    control, dns, gateway,
    known::Known,
    listener, plugins,
    problem::{ConfigErrors, LineIndex, Problem},
    reader::{Context, FileCheck, Table},
    registry, route, service,
};
use crate::model::Config;

pub(super) fn read(
    text: &str,
    file_name: &str,
    base_dir: &Path,
    known: &Known,
    file_check: FileCheck,
) -> Result<Config, ConfigErrors> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax_errors(text, file_name, &errors));
    }
    let cx = Context::new(text, file_name, base_dir, known, file_check);
    let mut root = Table::new(&cx, String::new(), 0, tree.get_ref());
    let config = sections(&mut root);
    root.finish();
    cx.finish(config)
}

fn syntax_errors(text: &str, file_name: &str, errors: &[Error]) -> ConfigErrors {
    let lines = LineIndex::of(text);
    let problem = |error: &Error| Problem {
        file: file_name.to_owned(),
        position: Some(lines.position(error.span().map_or(0, |span| span.start))),
        key: String::new(),
        message: format!("is not TOML here: {}", error.message()),
    };
    ConfigErrors::new(errors.iter().map(problem).collect())
}

/// None only where something was refused.
fn sections(root: &mut Table<'_>) -> Option<Config> {
    let gateway = gateway::read(root);
    let control = control::read(root);
    let listeners = listener::read(root, control.address);
    let dns = dns::read(root, control.address, &listeners);
    let registry = registry::read(root);
    let plugins = plugins::read(root);
    let services = service::read(root, &plugins, gateway.zone.as_deref());
    let routes = route::read(root, &services);
    root.not_yet(&["transactions", "events"]);
    Some(Config { gateway, listeners, control, dns, registry, plugins, services: services.into_checked()?, routes })
}

/// Whether both would bind the same port; a port of 0 is another one each time.
pub(super) fn same_port(one: SocketAddr, other: SocketAddr) -> bool {
    one == other && one.port() != 0
}
