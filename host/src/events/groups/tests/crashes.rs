//! Power cuts at random moments, with consumers that fail, are slow, and go: each event is delivered at least once and in the
//! order of its stream, what was acknowledged comes no more, and what was parked is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::world::{World, name};
use crate::{
    events::groups::{Delivery, How, NotSettled, Replay, Settings},
    model::Position,
};

const CASES: u64 = 60;

/// What consumers know, over all crashes.
#[derive(Default)]
struct Known {
    appended: BTreeMap<u64, (String, u64)>,
    acknowledged: BTreeSet<u64>,
    parked: BTreeSet<u64>,
    /// Stood aside when a replay was asked for: they come back one after the other.
    coming_back: BTreeSet<u64>,
    /// It was asked for, and nobody knows what came of it.
    in_doubt: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
}

impl Known {
    /// Nothing before it in its stream is unsettled, and it is none that was acknowledged.
    fn check(&mut self, seed: u64, delivery: &Delivery) {
        let at = delivery.event.position.0;
        assert!(!self.acknowledged.contains(&at), "seed {seed}: {at} was acknowledged, and is delivered");
        assert!(!self.parked.contains(&at), "seed {seed}: {at} was parked, and is delivered");
        let (stream, revision) = &self.appended[&at];
        for (before, (other, earlier)) in self.appended.range(..at) {
            let may_be_settled =
                [&self.acknowledged, &self.parked, &self.in_doubt].iter().any(|of| of.contains(before));
            assert!(
                other != stream || may_be_settled,
                "seed {seed}: {stream}@{revision} is delivered before {stream}@{earlier} is settled"
            );
        }
        self.coming_back.remove(&at);
        self.delivered.insert(at);
    }
}

fn any(random: &mut fastrand::Rng) -> How {
    match random.u8(0..10) {
        0 => How::Park("no".to_owned()),
        1 | 2 => How::Retry(None),
        _ => How::Ack,
    }
}

async fn settle(world: &World, known: &mut Known, deliveries: &[Delivery], random: &mut fastrand::Rng) {
    let given: Vec<_> = deliveries.iter().map(|delivery| (delivery.token, any(random))).collect();
    for (token, how) in &given {
        if *how != How::Retry(None) {
            known.in_doubt.insert(token.position.0);
        }
    }
    let Ok(settled) = world.groups.settle(&name(), &given).await else { return };
    for (token, how) in given {
        let at = token.position.0;
        match settled.refused.iter().find(|(refused, _)| *refused == token) {
            Some((_, NotSettled::LeaseOver)) => drop(known.in_doubt.remove(&at)),
            // A later delivery of it was settled, or it was parked.
            Some((_, NotSettled::AlreadySettled)) => {}
            Some((_, why)) => panic!("{token}: {why:?}"),
            None => match how {
                How::Ack => drop(known.acknowledged.insert(at)),
                How::Park(_) => {
                    known.parked.insert(at);
                    // A replay that has not come by yet takes it along.
                    known.coming_back.extend(world.shown().is_replaying.then_some(at));
                }
                _ => {}
            },
        }
    }
}

/// What is parked in doubt is known once the store has been asked.
async fn look(world: &World, known: &mut Known, seed: u64) {
    let mut there = BTreeSet::new();
    // What has timed out may be parked just now.
    for _ in 0..10 {
        let page = world.groups.parked(&name(), Position::START, 10_000).await.expect("it can be read");
        there = page.parked.iter().map(|(at, ..)| at.0).collect();
        if world.shown().parked == there.len() as u64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut gone = known.parked.difference(&there).filter(|at| !known.coming_back.contains(at));
    assert_eq!(gone.next(), None, "seed {seed}: what was parked is gone");
    assert_eq!(world.shown().parked, there.len() as u64, "seed {seed}");
    if world.shown().is_replaying {
        // It takes along what was parked since it was asked for and before it comes by.
        known.coming_back.extend(&there);
    }
    known.parked = there;
}

async fn live(world: &World, known: &mut Known, random: &mut fastrand::Rng, seed: u64) {
    let mut held: Vec<Delivery> = Vec::new();
    for _ in 0..random.usize(5..40) {
        match random.u8(0..8) {
            0..=2 => {
                let stream = format!("s{}", random.u8(0..4));
                let before = known.appended.values().filter(|(of, _)| *of == stream).count() as u64;
                world.append(&stream, "t").await;
                known.appended.insert(world.events.head().0, (stream, before));
            }
            3 | 4 => {
                let taken = world.take(&format!("c{}", random.u8(0..3)), random.usize(1..6)).await;
                look(world, known, seed).await;
                taken.iter().for_each(|delivery| known.check(seed, delivery));
                held.extend(taken);
            }
            5 => {
                let count = random.usize(0..=held.len());
                let now: Vec<_> = held.drain(..count).collect();
                settle(world, known, &now, random).await;
            }
            6 => tokio::time::sleep(Duration::from_millis(random.u64(0..2_000))).await,
            _ if random.u8(0..6) == 0 => {
                look(world, known, seed).await;
                known.in_doubt.retain(|at| !known.parked.contains(at));
                known.coming_back = std::mem::take(&mut known.parked);
                world.groups.replay(&name(), Replay::All).await.expect("it begins");
            }
            _ => drop(world.groups.release(&name(), "c0")),
        }
    }
    // A settlement that the cut may come between.
    world.storage.hold_syncs();
    if !held.is_empty() {
        // Without an answer, unless all of them came too late.
        let cut = tokio::time::timeout(Duration::from_millis(5), settle(world, known, &held, random));
        let _ = cut.await;
    }
}

async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut world, mut known) = (World::new().await, Known::default());
    let settings = Settings {
        ack_timeout: Duration::from_secs(1),
        attempts_max: 4,
        backoff: Duration::from_millis(100),
        ..Settings::default()
    };
    world.define(settings).await;
    for _ in 0..random.usize(1..5) {
        live(&world, &mut known, &mut random, seed).await;
        world = world.crashed(random.u64(..)).await;
        look(&world, &mut known, seed).await;
    }
    // What is left is delivered, and nothing else.
    loop {
        let taken = world.groups.take(&name(), "last", Some(100), Duration::from_secs(10)).await.expect("it is there");
        if taken.is_empty() {
            break;
        }
        look(&world, &mut known, seed).await;
        taken.iter().for_each(|delivery| known.check(seed, delivery));
        world.settle(&taken, &How::Ack).await;
        known.acknowledged.extend(taken.iter().map(|delivery| delivery.event.position.0));
    }
    look(&world, &mut known, seed).await;
    for at in known.appended.keys() {
        assert!(known.delivered.contains(at), "seed {seed}: {at} was never delivered");
        let is_settled = [&known.acknowledged, &known.parked, &known.in_doubt].iter().any(|of| of.contains(at));
        assert!(is_settled, "seed {seed}: {at} is not settled");
    }
    let shown = world.shown();
    assert_eq!((shown.lag(), shown.checkpoint), (0, world.events.head()), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn through_crashes_everything_is_delivered_in_order_and_nothing_settled_twice() {
    let first = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or_else(|| fastrand::u64(..u64::MAX - CASES));
    println!("seeds from {first}");
    for seed in first..first + CASES {
        run(seed).await;
    }
}
