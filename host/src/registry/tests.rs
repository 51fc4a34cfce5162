//! The registry with its keeper, on a store that fails and on one that crashes.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;

use super::{
    CheckDefinition, CheckKind, CheckStatus, Registration, Registry, RegistryError, RegistryOptions, Thresholds,
};
use crate::{
    model::{Clock, MassExpiry},
    storage::{StorageError, memory::MemoryStorage},
};

/// What a test waits for comes within this, or not at all.
const DEADLINE: Duration = Duration::from_secs(20);

async fn open(storage: &MemoryStorage) -> Registry {
    let options = RegistryOptions {
        node_name: "sluice".to_owned(),
        node_address: "127.0.0.1".to_owned(),
        mass_expiry: MassExpiry::default(),
    };
    Registry::open(Arc::new(storage.clone()), Clock::start(), options, 1).await.expect("the store can be read")
}

fn instance(id: &str) -> Registration {
    let check = CheckDefinition {
        id: format!("service:{id}"),
        name: "alive".to_owned(),
        notes: String::new(),
        kind: CheckKind::Ttl { ttl: Duration::from_secs(3600) },
        initial: CheckStatus::Critical,
        deregister_after: None,
        thresholds: Thresholds::default(),
    };
    Registration {
        id: id.to_owned(),
        service: "web".to_owned(),
        port: 80,
        checks: vec![check],
        ..Registration::default()
    }
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("it ends") })
}

/// A thousand registrations and as many changes of status; the power goes at a random moment, while a random part of
/// what was written has been synced.
#[test]
fn what_was_acknowledged_survives_a_crash_of_a_disk_that_tears_and_reorders() {
    let seed =
        std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    for round in 0..20 {
        block_on(crash_once(seed.wrapping_add(round)));
    }
}

async fn crash_once(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let storage = MemoryStorage::new();
    let registry = open(&storage).await;
    storage.hold_syncs();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let registry = registry.clone();
        tasks.spawn(async move {
            let id = format!("web-{number}");
            let registered = registry.register(instance(&id)).await.is_ok();
            let passed =
                registered && registry.report(&format!("service:{id}"), CheckStatus::Passing, "").await.is_ok();
            (id, registered, passed)
        });
    }
    for _ in 0..random.usize(0..60) {
        tokio::task::yield_now().await;
        if random.bool() {
            storage.sync();
        }
    }
    let after = storage.crash(random.u64(..));
    registry.close().await;
    let acknowledged = tasks.join_all().await;
    let index = registry.index();

    let restored = open(&after).await;
    for (id, registered, passed) in acknowledged {
        let instance = restored.instance(&id);
        assert!(instance.is_some() || !registered, "seed {seed}: {id} was acknowledged and is lost");
        if passed {
            let status = instance.map(|instance| instance.status);
            assert_eq!(status, Some(CheckStatus::Passing), "seed {seed}: {id} was acknowledged as passing");
        }
    }
    assert!(restored.index() >= index, "seed {seed}: the index went back from {index} to {}", restored.index());
    let newest = restored.instances().iter().map(|instance| instance.modify_index).max();
    assert!(newest.unwrap_or(0) <= restored.index(), "seed {seed}: half of a commit is there");
    restored.close().await;
}

#[test]
fn nothing_is_seen_before_it_is_durable() {
    block_on(async {
        let storage = MemoryStorage::new();
        let registry = open(&storage).await;
        storage.hold_syncs();
        let (writer, index) = (registry.clone(), registry.index());
        let writing = tokio::spawn(async move { writer.register(instance("web-0")).await });
        while storage.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(registry.service("web").is_none() && registry.index() == index && !writing.is_finished());
        storage.release_syncs();
        writing.await.expect("it does not panic").expect("right");
        assert!(registry.service("web").is_some());
        registry.close().await;
    });
}

#[test]
fn a_change_that_the_store_refuses_is_refused_and_the_registry_goes_on() {
    block_on(async {
        let storage = MemoryStorage::new();
        let registry = open(&storage).await;
        registry.register(instance("web-0")).await.expect("right");
        let full = StorageError::DiskFull { path: "store".into(), free_bytes: 1, reserve_bytes: 2 };
        storage.refuse_with(Some(full));
        let refused = registry.register(instance("web-1")).await;
        assert!(matches!(refused, Err(RegistryError::NotDurable(_))), "{refused:?}");
        assert!(registry.deregister("web-0").await.is_err());
        assert_eq!(registry.service("web").map(|listing| listing.instances.len()), Some(1));
        assert!(registry.figures().commits_failed >= 2);
        storage.refuse_with(None);
        registry.register(instance("web-1")).await.expect("there is room again");
        assert_eq!(registry.service("web").map(|listing| listing.instances.len()), Some(2));
        registry.close().await;
        assert_eq!(registry.register(instance("web-2")).await, Err(RegistryError::Closed));
    });
}

#[test]
fn who_waits_for_a_service_is_woken_by_its_changes_alone() {
    block_on(async {
        let registry = open(&MemoryStorage::new()).await;
        let absent = registry.service_or_absent("web").index;
        let waiter = registry.clone();
        let woken = tokio::spawn(async move { waiter.service_changed("web", absent, DEADLINE).await });
        registry.register(Registration { service: "api".to_owned(), ..instance("api-0") }).await.expect("right");
        assert!(registry.service_changed("web", absent, Duration::from_millis(1)).await.is_none(), "nothing changed");
        registry.register(instance("web-0")).await.expect("right");
        let listing = woken.await.expect("it does not panic").expect("it changed");
        assert!(listing.index > absent && listing.instances.len() == 1);

        let waiter = registry.clone();
        let waiting = tokio::spawn(async move { waiter.service_changed("web", listing.index, DEADLINE).await });
        tokio::task::yield_now().await;
        registry.close().await;
        assert!(waiting.await.expect("it does not panic").is_none(), "the end wakes everybody");
    });
}

#[test]
fn a_thousand_heartbeats_cost_no_commit() {
    block_on(async {
        let registry = open(&MemoryStorage::new()).await;
        registry.register(instance("web-0")).await.expect("right");
        registry.report("service:web-0", CheckStatus::Passing, "").await.expect("there");
        let before = (registry.figures().commits, registry.index());
        for number in 0..1000 {
            registry.report("service:web-0", CheckStatus::Passing, &format!("{number}")).await.expect("there");
        }
        assert_eq!((registry.figures().commits, registry.index()), before);
        assert_eq!(&*registry.instance("web-0").expect("there").checks[0].output(), "999");
        registry.close().await;
    });
}
