//! Endpoints from the gateway's own registry. Settings, all optional: `service` (the gateway's name of the service),
//! `tags` (all of which an instance must have), `zone`, and `metadata` (entries that it must have).

mod selection;

use selection::Selection;
use sluice_sdk::{
    Context, Settings,
    discovery::{Discovery, Membership, WatchError, Watched},
    registry::{Listing, list_service},
};

struct Registry {
    service: String,
    selection: Selection,
}

impl Discovery for Registry {
    fn configure(context: &Context, settings: &mut Settings) -> Self {
        let service = settings.text("service", &context.name);
        let zone = settings.text("zone", "");
        let selection = Selection {
            tags: settings.texts("tags"),
            zone: Some(zone).filter(|zone| !zone.is_empty()),
            metadata: settings.named_texts("metadata"),
        };
        Self { service, selection }
    }

    /// The cursor is the registry's index.
    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let lost = || WatchError::Lost("the cursor is no index of the registry".to_owned());
        let known = cursor.map(|cursor| cursor.parse::<u64>().map_err(|_| lost())).transpose()?;
        let Some(Listing { index, mut instances }) = list_service(&self.service, known, wait_ms) else {
            return match known {
                Some(_) => Ok(None),
                None => Err(WatchError::Unavailable("the registry does not answer".to_owned())),
            };
        };
        instances.retain(|instance| self.selection.takes(&instance.zone, &instance.metadata));
        Ok(Some(Membership { instances, cursor: index.to_string() }))
    }
}

sluice_sdk::discovery!(Registry);
