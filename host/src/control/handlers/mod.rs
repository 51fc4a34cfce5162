//! What the control plane adds to [`crate::events::handlers`]: handlers as the configuration and the overlay have them, the
//! versions that their states keep to, and the calls that they cause.

mod caller;

use std::{path::Path, sync::Arc};

use super::{
    calls::{Directory, GatewayCaller},
    history::{About, History, HistoryKind},
    pinned::PinnedVersions,
};
use crate::{
    events::{
        EventStore,
        handlers::{
            ComponentHandler, EventHandlers, HandlerParts, HandlersError, Making, OutboxBounds, Pin, Tell, Told,
        },
    },
    gateway::Gateway,
    model::{Clock, HandlerName, Wall},
    plugin::{InstanceError, Outside, Runtime, StoreError, Version},
    storage::Storage,
};

/// Of the versions that states keep to, within `data_dir`.
const DIR: &str = "handlers";

/// The handlers, and what the publisher tells them.
#[derive(Clone)]
pub struct HandlerSide {
    pub handlers: EventHandlers,
    pub pinned: Arc<PinnedVersions>,
    pub directory: Arc<Directory>,
    maker: Arc<Maker>,
}

/// What it is made of.
pub struct HandlerSideParts<'a> {
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
pub enum HandlerSideError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Handlers(#[from] HandlersError),
}

impl HandlerSide {
    /// Claims the handlers; they begin when the publisher says which there are.
    pub async fn open(parts: HandlerSideParts<'_>) -> Result<Self, HandlerSideError> {
        let HandlerSideParts { data_dir, storage, events, gateway, outside, runtime, history, clock } = parts;
        let pinned = Arc::new(PinnedVersions::open(&data_dir.join(DIR), runtime, clock)?);
        let directory = Arc::new(Directory::of("events"));
        let maker = Arc::new(Maker { pinned: Arc::clone(&pinned), outside: Arc::clone(&outside) });
        let handlers = EventHandlers::open(HandlerParts {
            storage,
            events,
            caller: Arc::new(GatewayCaller::new(gateway, outside, Arc::clone(&directory))),
            versions: Arc::clone(&maker) as Arc<_>,
            tell: tell(history),
            wall: Wall::start(),
            owner: format!("process {}", std::process::id()),
            outbox: OutboxBounds::default(),
            seed: fastrand::u64(..),
        })
        .await?;
        Ok(Self { handlers, pinned, directory, maker })
    }

    /// An instance is made, so that settings that it does not take are found out here.
    pub async fn make(
        &self,
        name: &HandlerName,
        version: Arc<Version>,
        pin: &Pin,
        making: &Making,
    ) -> Result<ComponentHandler, InstanceError> {
        self.maker.make(name, version, pin, making).await
    }

    /// Versions that no state keeps to go, but for these. Where it cannot be seen what is kept to, all stay: no reason to stop.
    pub async fn tidy(&self, wanted: Vec<Pin>) {
        let pins = match self.handlers.pins().await {
            Ok(pins) => pins.into_iter().chain(wanted),
            Err(error) => {
                tracing::warn!(%error, "versions that no event handler keeps to were not removed");
                return;
            }
        };
        let needed: Vec<_> = pins.map(|pin| (pin.plugin, pin.version)).collect();
        tokio::task::block_in_place(|| self.pinned.retain(&needed));
    }
}

/// Makes handlers of components.
struct Maker {
    pinned: Arc<PinnedVersions>,
    outside: Arc<Outside>,
}

impl Maker {
    async fn make(
        &self,
        name: &HandlerName,
        version: Arc<Version>,
        pin: &Pin,
        making: &Making,
    ) -> Result<ComponentHandler, InstanceError> {
        let (outside, seed) = (Arc::clone(&self.outside), fastrand::u64(..));
        ComponentHandler::new(version, name, pin, making, outside, self.pinned.clock, seed).await
    }
}

/// Into the history.
fn tell(history: History) -> Tell {
    Arc::new(move |name, pin, told| {
        let kind = match told {
            Told::Fault(_) => HistoryKind::Fault,
            Told::Rebuilding | Told::TookOver { .. } => HistoryKind::Rebuilt,
            Told::Parked { .. }
            | Told::Halted { .. }
            | Told::Refused { .. }
            | Told::CallParked { .. }
            | Told::CallLost { .. }
            | Told::NotGranted { .. } => HistoryKind::Warning,
        };
        let about = About { plugin: Some(pin.plugin.clone()), version: Some(pin.version), ..About::default() };
        history.note(kind, about, format!("event handler {name}: {told}"));
    })
}
