//! Ids looked for before it is an append's turn: by whoever appends, beside the others and while the disk syncs. The writer
//! has only to know which ones came since.

use std::collections::HashSet;

use super::Shared;
use crate::{
    events::{append::Append, keys},
    model::{Event, EventId, Position, StreamName},
    storage::{Space, blocking},
};

/// Events of an append up to which that is done. Larger ones are left to the writer.
const EVENTS_MAX: usize = 32;

/// Ids of each of the two generations: some 200 bytes each, so 3 MiB together mostly, and 9 where names are as long as may be. As many come in a tenth of a second
/// under full load; a look that took longer is repeated by the writer.
const GENERATION_MAX: usize = 8_192;

/// That none of an append's ids is of an event at or below this position.
#[derive(Clone, Copy, Debug)]
pub struct Absent(Position);

impl Shared {
    /// None: one of them is there, or may be, or this is not the time to look.
    pub fn look_ahead(&self, append: &Append) -> Option<Absent> {
        if append.drafts().count() > EVENTS_MAX {
            return None;
        }
        // Each look may have to wait for the disk.
        let _here = blocking::here()?;
        // First: all that stands up to there is in the snapshot.
        let head = self.tail.head();
        let snapshot = self.storage.snapshot().ok()?;
        let mut ids = append.streams.iter().flat_map(|of| of.drafts.iter().map(|draft| (&of.stream, &draft.id)));
        let is_absent = |(stream, id): (&StreamName, &EventId)| {
            let key = keys::id(stream.as_str(), id.as_str());
            matches!(snapshot.get(Space::EventIndex, &key), Ok(None))
        };
        ids.all(is_absent).then_some(Absent(head))
    }
}

type Ids = HashSet<(StreamName, EventId)>;

/// The ids that were given to the disk of late, whatever became of them. The older generation goes when the younger one is
/// full.
pub struct Recent {
    young: Ids,
    old: Ids,
    /// All that came above are here.
    floor: Position,
    /// The young ones came above.
    turned: Position,
}

impl Recent {
    pub fn above(last: Position) -> Self {
        Self { young: Ids::new(), old: Ids::new(), floor: last, turned: last }
    }

    pub fn add(&mut self, event: &Event) {
        self.young.insert((event.stream.clone(), event.draft.id.clone()));
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
            (self.floor, self.turned) = (self.turned, event.position);
        }
    }

    /// Whether nothing that came since says otherwise.
    pub fn confirms(&self, Absent(upto): Absent, stream: &StreamName, id: &EventId) -> bool {
        if upto < self.floor {
            return false;
        }
        let of = (stream.clone(), id.clone());
        !self.young.contains(&of) && !self.old.contains(&of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Draft;

    fn event(position: u64) -> Event {
        let draft = Draft::new(
            position.to_string().parse().expect("an id"),
            "/s".parse().expect("a source"),
            "t".parse().expect("a type"),
        );
        Event {
            position: Position(position),
            stream: "s".parse().expect("a name"),
            revision: position - 1,
            recorded_ms: 0,
            draft,
        }
    }

    #[test]
    fn what_came_since_the_look_is_known_or_the_look_is_worth_nothing() {
        let mut recent = Recent::above(Position(10));
        let generation = GENERATION_MAX as u64;
        for position in 11..=10 + 3 * generation {
            recent.add(&event(position));
            let Event { stream, draft, .. } = event(position);
            for upto in [0, 9, 10, 10 + generation, position - 1] {
                assert!(!recent.confirms(Absent(Position(upto)), &stream, &draft.id), "{position} behind {upto}");
            }
        }
        let Event { stream, draft, .. } = event(1);
        let confirms = |upto| recent.confirms(Absent(Position(upto)), &stream, &draft.id);
        assert!(!confirms(9 + 2 * generation), "nobody knows what came next");
        assert!(confirms(10 + 2 * generation) && confirms(10 + 3 * generation));
    }
}
