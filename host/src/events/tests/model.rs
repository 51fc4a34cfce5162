//! The store beside a plain `BTreeMap`, both given the same random operations from a seed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::events::{AppendedEvent, AppendedStream, StreamAppend};

const CASES: u64 = 1_500;
const OPERATIONS: usize = 40;

/// What a store of events does, as simply as it can be said.
#[derive(Default)]
struct Model {
    /// By position.
    events: BTreeMap<u64, (String, u64, Draft)>,
    /// Revisions given so far.
    next: BTreeMap<String, u64>,
}

impl Model {
    fn append(&mut self, append: &Append) -> Result<Vec<Vec<(u64, bool)>>, &'static str> {
        let mut found = Vec::new();
        for of in &append.streams {
            let name = of.stream.as_str();
            let mut new = BTreeMap::new();
            let mut verdicts = Vec::new();
            for draft in &of.drafts {
                let stored = self.events.values().find(|(stream, _, it)| stream == name && it.id == draft.id);
                let known = stored.map(|(_, _, it)| it).or(new.get(&draft.id).copied());
                match known {
                    Some(known) if known.data == draft.data && known.event_type == draft.event_type => {
                        verdicts.push(false)
                    }
                    Some(_) => return Err("taken"),
                    None => {
                        new.insert(draft.id.clone(), draft);
                        verdicts.push(true);
                    }
                }
            }
            let last = self.next.get(name).map(|next| next - 1);
            if verdicts.contains(&true) && !of.expected.holds(last) {
                return Err("conflict");
            }
            found.push(verdicts);
        }
        let mut places = Vec::new();
        for (of, verdicts) in append.streams.iter().zip(found) {
            let name = of.stream.as_str();
            let mut answers = Vec::new();
            for (draft, is_new) in of.drafts.iter().zip(verdicts) {
                if is_new {
                    let next = self.next.entry(name.to_owned()).or_default();
                    let position = self.events.last_key_value().map_or(1, |(last, _)| last + 1);
                    self.events.insert(position, (name.to_owned(), *next, draft.clone()));
                    *next += 1;
                }
                let at = self.events.values().find(|(stream, _, it)| stream == name && it.id == draft.id);
                answers.push((at.map_or(0, |(_, revision, _)| *revision), is_new));
            }
            places.push(answers);
        }
        Ok(places)
    }

    fn read(&self, read: &Read) -> Vec<(u64, String, u64, String)> {
        let wanted = self.events.iter().filter(|(position, (name, revision, draft))| {
            let key = if read.stream.is_some() { *revision } else { **position };
            let is_within = match (read.from, read.order) {
                (None, _) => true,
                (Some(from), Order::Forward) => key >= from,
                (Some(from), Order::Backward) => key <= from,
            };
            let is_of = read.stream.as_ref().is_none_or(|stream| stream.as_str() == name);
            is_within && is_of && read.filter.admits(draft.event_type.as_str(), name)
        });
        let mut found: Vec<_> = wanted
            .map(|(position, (name, revision, draft))| (*position, name.clone(), *revision, draft.id.to_string()))
            .collect();
        if read.order == Order::Backward {
            found.reverse();
        }
        found
    }
}

struct Case {
    random: fastrand::Rng,
}

impl Case {
    fn stream(&mut self) -> StreamName {
        stream(self.random.choice(["a", "a.b", "ab", "b"]).expect("there are some"))
    }

    fn draft(&mut self) -> Draft {
        let id = self.random.u32(0..30).to_string();
        let event_type = *self.random.choice(&["t", "t.u", "v"]).expect("there are some");
        // Seldom another event of the same id.
        let data = if self.random.u8(..) < 8 { "other" } else { "same" };
        let event_type = if data == "same" { ["t", "t.u", "v"][id.len() % 3] } else { event_type };
        draft(&id, event_type, data)
    }

    fn append(&mut self) -> Append {
        let count = self.random.usize(1..=2);
        let mut streams: Vec<StreamAppend> = Vec::new();
        for _ in 0..count {
            let stream = self.stream();
            if streams.iter().any(|of| of.stream == stream) {
                continue;
            }
            let expected = match self.random.u8(0..8) {
                0 => Expected::NoStream,
                1 => Expected::Exists,
                2 => Expected::Revision(self.random.u64(0..6)),
                _ => Expected::Any,
            };
            let drafts = (0..self.random.usize(1..=3)).map(|_| self.draft()).collect();
            streams.push(StreamAppend { stream, expected, drafts });
        }
        Append { streams, ..Append::default() }
    }

    fn read(&mut self) -> Read {
        let types: &[&str] = self.random.choice(&[&[][..], &["t"], &["t*"], &["v", "t.u"]]).expect("there are some");
        let streams: &[&str] = self.random.choice(&[&[][..], &["a*"], &["b"]]).expect("there are some");
        Read {
            stream: self.random.bool().then(|| self.stream()),
            order: if self.random.bool() { Order::Forward } else { Order::Backward },
            from: self.random.bool().then(|| self.random.u64(0..30)),
            filter: filter(types, streams),
            limit: self.random.usize(1..=5),
        }
    }
}

fn agrees(appended: Result<Appended, AppendError>, wanted: Result<Vec<Vec<(u64, bool)>>, &'static str>) {
    let shape = |of: &AppendedStream| -> Vec<(u64, bool)> {
        of.events.iter().map(|AppendedEvent { revision, is_new, .. }| (*revision, *is_new)).collect()
    };
    match (appended, wanted) {
        (Ok(appended), Ok(wanted)) => assert_eq!(appended.streams.iter().map(shape).collect::<Vec<_>>(), wanted),
        (Err(AppendError::Conflict { .. }), Err("conflict")) | (Err(AppendError::IdTaken { .. }), Err("taken")) => {}
        (appended, wanted) => panic!("{appended:?} where {wanted:?} was right"),
    }
}

async fn run(seed: u64) {
    let mut case = Case { random: fastrand::Rng::with_seed(seed) };
    let mut model = Model::default();
    let mut storage = MemoryStorage::new();
    let mut store = open(&storage).await;
    let mut following = store.subscribe(Position::START, Filter::default());
    let mut followed = BTreeSet::new();
    for _ in 0..OPERATIONS {
        match case.random.u8(0..10) {
            0 => {
                store.close().await;
                storage = storage.crash(case.random.u64(..));
                store = open(&storage).await;
                following = store.subscribe(following.position(), Filter::default());
            }
            1..=5 => {
                let append = case.append();
                let wanted = model.append(&append);
                agrees(store.append(append).await, wanted);
            }
            6 => {
                if following.position() < store.head() {
                    let limit = case.random.usize(1..=4);
                    for event in following.next(limit).await.expect("it is read").events {
                        assert!(followed.insert(event.position.0), "shown twice: {:?}", told(&event));
                        assert!(followed.last() == Some(&event.position.0), "out of order: {:?}", told(&event));
                    }
                }
            }
            _ => {
                let read = case.read();
                let found: Vec<_> = read_on(&store, read.clone()).await.iter().map(|event| told(event)).collect();
                assert_eq!(found, model.read(&read), "{read:?}");
            }
        }
    }
    while following.position() < store.head() {
        followed.extend(following.next(3).await.expect("it is read").events.iter().map(|event| event.position.0));
    }
    assert_eq!(followed, model.events.keys().copied().collect(), "a follower saw something else");
    store.close().await;
}

#[test]
fn the_store_does_what_a_map_does() {
    let first = fastrand::u64(..u64::MAX - CASES);
    runtime().block_on(async {
        for seed in first..first + CASES {
            let case = std::panic::AssertUnwindSafe(run(seed));
            println!("seed {seed}");
            case.0.await;
        }
    });
}
