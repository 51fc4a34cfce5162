//! The registry's DNS server, where the configuration has one.

use std::{io, net::SocketAddr};

use tokio::{sync::watch, task::JoinHandle};

use super::run::RunError;
use crate::{
    model::DnsOptions,
    registry::{
        Registry,
        dns::{DnsServer, Zone},
    },
};

/// Bound, so that an address in use is known before anything serves.
pub struct BoundDns {
    server: DnsServer,
    zone: Zone,
}

impl BoundDns {
    pub async fn bind(options: &DnsOptions) -> Result<Self, RunError> {
        let failed = |source| RunError::ListenDns { address: options.address, source };
        let server = DnsServer::bind(options.address).await.map_err(failed)?;
        let zone = Zone::new(options, server.address().ip()).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self { server, zone })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Ends when `shutdown` becomes true.
    pub fn spawn(self, registry: Registry, shutdown: watch::Receiver<bool>) -> JoinHandle<()> {
        tracing::info!(address = %self.address(), "dns listening");
        tokio::spawn(self.server.serve(self.zone, registry, shutdown))
    }
}
