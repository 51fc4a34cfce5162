//! The `clock` import.

use std::time::Duration;

use super::State;
use crate::{model::InstantUs, plugin::bindings::discovery::sluice::plugin::clock};

impl clock::Host for State {
    fn now(&mut self) -> InstantUs {
        self.imports.clock.now_us()
    }

    async fn sleep_ms(&mut self, duration: u32) {
        if self.imports.outside.is_some() {
            tokio::time::sleep(Duration::from_millis(duration.into())).await;
        }
    }
}
