//! What the control plane adds to [`crate::transactions`]: protocols as the configuration and the overlay have them, the
//! versions that transactions keep to, and the calls to participants.

mod caller;

use std::{path::Path, sync::Arc};

use super::{
    calls::{Directory, GatewayCaller},
    history::{About, History, HistoryKind},
    pinned::PinnedVersions,
};
use crate::{
    events::EventStore,
    gateway::Gateway,
    model::{Clock, Config, Wall},
    plugin::{Outside, Runtime, StoreError},
    storage::Storage,
    transactions::{Coordinator, Parts, TransactionError},
};

/// Of the versions that transactions keep to, within `data_dir`.
const DIR: &str = "transactions";

/// The coordinator, and what the publisher tells it.
#[derive(Clone)]
pub struct TransactionSide {
    pub coordinator: Coordinator,
    pub pinned: Arc<PinnedVersions>,
    pub directory: Arc<Directory>,
}

/// What it is made of.
pub struct SideParts<'a> {
    pub config: &'a Config,
    pub data_dir: &'a Path,
    pub storage: Arc<dyn Storage>,
    pub events: EventStore,
    pub gateway: Arc<Gateway>,
    pub outside: Arc<Outside>,
    pub runtime: Arc<Runtime>,
    pub history: History,
    pub clock: Clock,
}

#[derive(Debug, thiserror::Error)]
pub enum SideError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Transactions(#[from] TransactionError),
}

impl TransactionSide {
    /// Claims the transactions; they go on with [`Coordinator::recover`].
    pub async fn open(parts: SideParts<'_>) -> Result<Self, SideError> {
        let SideParts { config, data_dir, storage, events, gateway, outside, runtime, history, clock } = parts;
        let pinned = Arc::new(PinnedVersions::open(&data_dir.join(DIR), runtime, clock)?);
        let directory = Arc::new(Directory::of("transactions"));
        let caller = Arc::new(GatewayCaller::new(gateway, outside, Arc::clone(&directory)));
        let coordinator = Coordinator::open(Parts {
            storage,
            events: Some(events),
            caller,
            versions: Arc::clone(&pinned) as Arc<_>,
            alert: alert(history),
            wall: Wall::start(),
            retention: config.transactions.retention,
            owner: format!("process {}", std::process::id()),
            seed: fastrand::u64(..),
        })
        .await?;
        Ok(Self { coordinator, pinned, directory })
    }

    /// Versions that nothing needs any more go.
    pub fn tidy(&self) {
        let mut needed = self.coordinator.pins();
        for of in self.coordinator.protocols().values() {
            let pins = std::iter::once(&of.incumbent).chain(of.candidate.as_ref().map(|(_, candidate)| candidate));
            needed.extend(pins.map(|pinned| (pinned.pin.plugin.clone(), pinned.pin.version)));
        }
        self.pinned.retain(&needed);
    }
}

/// An operator has to look.
fn alert(history: History) -> crate::transactions::Alert {
    Arc::new(move |gid, plugin, version, reason| {
        let about = About { plugin: Some(plugin.clone()), version: Some(version), ..About::default() };
        history.note(HistoryKind::Hazard, about, format!("transaction {gid} stands in hazard: {reason}"));
    })
}
