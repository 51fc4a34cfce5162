//! A candidate version of a source, asked beside the incumbent; what it says is compared and never in force.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tokio::task::JoinHandle;

use super::{Recipe, accept, driver::backoff, lock};
use crate::{
    model::{EndpointSpec, VersionId},
    plugin::{DiscoveryInstance, WatchError},
};

/// How long one `watch` waits for a change.
const WAIT: Duration = Duration::from_secs(60);
/// Between two questions: nobody waits for the answer.
const PAUSE: Duration = Duration::from_millis(100);

/// A candidate at work.
pub struct Shadow {
    recipe: Recipe,
    task: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
}

/// What a candidate has said.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// None before the first answer.
    pub endpoints: Option<Arc<[EndpointSpec]>>,
    pub errors: u64,
    pub last_error: Option<(SystemTime, String)>,
}

impl Shadow {
    pub fn begin(recipe: Recipe) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(watch(recipe.clone(), Arc::clone(&seen)));
        Self { recipe, task, seen }
    }

    pub fn version(&self) -> VersionId {
        self.recipe.version.id()
    }

    /// Whether it would be begun again in the same way.
    pub fn is_of(&self, recipe: &Recipe) -> bool {
        let own = &self.recipe;
        own.version.id() == recipe.version.id()
            && own.policy == recipe.policy
            && own.grants == recipe.grants
            && own.memory_bytes_max == recipe.memory_bytes_max
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(recipe: Recipe, seen: Arc<Mutex<Seen>>) {
    let mut failures = 0;
    loop {
        let error = match recipe.make().await {
            Ok(instance) => ask(instance, &seen, &mut failures).await,
            Err(error) => error.to_string(),
        };
        failed(&seen, error);
        tokio::time::sleep(backoff(failures)).await;
        failures += 1;
    }
}

/// Until the instance is of no more use; then why.
async fn ask(mut instance: DiscoveryInstance, seen: &Mutex<Seen>, failures: &mut u32) -> String {
    let mut cursor: Option<String> = None;
    loop {
        let error = match instance.watch(cursor.as_deref(), WAIT).await {
            Err(fault) => return format!("failed in {fault}"),
            Ok(Err(error)) => {
                if matches!(error, WatchError::Lost(_)) {
                    cursor = None;
                }
                error.to_string()
            }
            Ok(Ok(None)) => String::new(),
            Ok(Ok(Some(answer))) => match accept(answer) {
                Ok(accepted) => {
                    *failures = 0;
                    cursor = Some(accepted.cursor);
                    lock(seen).endpoints = Some(accepted.endpoints);
                    String::new()
                }
                Err(problem) => problem,
            },
        };
        if error.is_empty() {
            tokio::time::sleep(PAUSE).await;
        } else {
            failed(seen, error);
            tokio::time::sleep(backoff(*failures)).await;
            *failures += 1;
        }
    }
}

fn failed(seen: &Mutex<Seen>, error: String) {
    let mut seen = lock(seen);
    seen.errors += 1;
    seen.last_error = Some((SystemTime::now(), error));
}
