//! A balancer that always takes the first endpoint, so that a test knows who is asked first.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::{config, guest::built};

/// The plugin's file, for as long as a gateway may read it.
#[derive(Debug)]
pub struct FirstSlot {
    folder: TempDir,
}

impl FirstSlot {
    pub fn written() -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("first-slot.wasm"), built("first-slot")).expect("a writable folder");
        Self { folder }
    }

    /// A service with these endpoints, of which the first is asked first, and a route that gives it everything. `more`
    /// are further lines of its table; lines that follow belong to the route.
    pub fn any_route(&self, name: &str, addresses: &[SocketAddr], more: &str) -> String {
        let path = self.folder.path().join("first-slot.wasm");
        let more = format!("balancer = {{ plugin = \"first-slot\" }}\n{more}\n[plugins.first-slot]\npath = {path:?}\n");
        config::any_route(name, addresses, &more)
    }
}
