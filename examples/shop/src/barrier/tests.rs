//! Every order in which a branch's operations can come, each at most twice, against what must be so in all of them.

use std::{collections::BTreeSet, thread};

use super::*;
use crate::store::Store;

const PAIRS: [(&str, &str, &str); 3] =
    [("try", "confirm", "cancel"), ("prepare", "commit", "abort"), ("action", "", "compensate")];

/// A business that counts: what is held, and how often each operation has run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Business {
    held: i32,
    ran: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Participant {
    barrier: Barrier,
    business: Business,
}

impl Participant {
    /// `refuses`: that it has nothing to give.
    fn call(&mut self, op: &str, refuses: bool) -> Result<Passed<()>, Stopped<String>> {
        let Self { barrier, business } = self;
        barrier.pass(Operation { gid: "g", branch_id: "01", op }, || {
            if refuses {
                return Err("sold out".to_owned());
            }
            business.held += if MAY_REFUSE.contains(&op) { 1 } else { -1 };
            business.ran.push(op.to_owned());
            Ok(())
        })
    }

    fn ran(&self, op: &str) -> usize {
        self.business.ran.iter().filter(|ran| *ran == op).count()
    }
}

/// All sequences of so many of these, each at most twice.
fn sequences<'o>(ops: &[&'o str], len_max: usize) -> Vec<Vec<&'o str>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..len_max {
        let upto = all.len();
        for index in from..upto {
            for op in ops {
                let before: &Vec<&str> = &all[index];
                if before.iter().filter(|known| *known == op).count() < 2 {
                    let mut longer = before.clone();
                    longer.push(op);
                    all.push(longer);
                }
            }
        }
        from = upto;
    }
    all
}

#[test]
fn in_no_order_is_anything_done_twice_undone_undone_or_left_behind() {
    let mut orders = 0;
    for (begin, _, undo) in PAIRS {
        for sequence in sequences(&[begin, undo], 4) {
            orders += 1;
            let mut participant = Participant::default();
            for op in &sequence {
                let before = participant.business.clone();
                let passed = participant.call(op, false);
                if !matches!(passed, Ok(Passed::Done(()))) {
                    assert_eq!(participant.business, before, "{sequence:?}: {passed:?} changed something");
                }
            }
            let first_undo = sequence.iter().position(|op| *op == undo);
            let began =
                sequence.iter().position(|op| *op == begin).filter(|at| first_undo.is_none_or(|undo| *at < undo));
            assert_eq!(participant.ran(begin), usize::from(began.is_some()), "{sequence:?}");
            assert_eq!(participant.ran(undo), usize::from(began.is_some() && first_undo.is_some()), "{sequence:?}");
            let held = i32::from(began.is_some() && first_undo.is_none());
            assert_eq!(participant.business.held, held, "{sequence:?}");
        }
    }
    assert!(orders > 30, "{orders} orders");
}

#[test]
fn each_order_is_answered_as_the_coordinator_understands_it() {
    for (begin, _, undo) in PAIRS {
        let answers = |sequence: &[&str]| {
            let mut participant = Participant::default();
            sequence.iter().map(|op| participant.call(op, false)).collect::<Vec<_>>()
        };
        let (done, twice, empty) = (Ok(Passed::Done(())), Ok(Passed::Duplicate), Ok(Passed::Empty));
        assert_eq!(answers(&[begin, begin, undo, undo]), [done.clone(), twice.clone(), done.clone(), twice.clone()]);
        assert_eq!(answers(&[begin, undo, begin]), [done.clone(), done, twice.clone()]);
        assert_eq!(answers(&[undo, begin, undo, begin]), [empty, Err(Stopped::TooLate), twice, Err(Stopped::TooLate)]);
    }
}

#[test]
fn what_commits_runs_once_and_never_counts_as_undoing() {
    for (begin, finish, _) in PAIRS.into_iter().filter(|(_, finish, _)| !finish.is_empty()) {
        let mut participant = Participant::default();
        for op in [begin, finish, finish, begin, finish] {
            participant.call(op, false).expect("nothing is refused");
        }
        assert_eq!((participant.ran(begin), participant.ran(finish)), (1, 1));
    }
}

#[test]
fn a_refusal_stays_one_though_it_could_be_done_by_now() {
    for (begin, _, undo) in PAIRS {
        let mut participant = Participant::default();
        assert_eq!(participant.call(begin, true), Err(Stopped::Refused("sold out".to_owned())));
        assert_eq!(participant.call(begin, false), Err(Stopped::RefusedBefore("sold out".to_owned())));
        assert_eq!(participant.call(undo, false), Ok(Passed::Empty), "there is nothing to undo");
        assert_eq!(participant.call(begin, false), Err(Stopped::RefusedBefore("sold out".to_owned())));
        assert_eq!(participant.business, Business::default());
    }
}

#[test]
fn what_fails_after_the_decision_may_be_tried_again() {
    let mut participant = Participant::default();
    participant.call("try", false).expect("it is the first");
    assert_eq!(participant.call("confirm", true), Err(Stopped::Refused("sold out".to_owned())));
    assert_eq!(participant.call("confirm", false), Ok(Passed::Done(())));
}

#[test]
fn transactions_and_branches_do_not_know_each_other() {
    let mut barrier = Barrier::default();
    let mut passed = BTreeSet::new();
    for (gid, branch_id) in [("g", "01"), ("g", "02"), ("h", "01"), ("g\",\"0", "1"), ("g", "")] {
        let passes = barrier.pass(Operation { gid, branch_id, op: "try" }, || Ok::<_, String>(()));
        assert_eq!(passes, Ok(Passed::Done(())));
        passed.insert((gid, branch_id));
    }
    assert_eq!(passed.len(), 5);
}

/// Copies of a try and of its cancel, at once, at four instances: whichever comes first, nothing stays held.
#[test]
fn copies_that_come_at_once_at_several_instances_leave_nothing_behind() {
    for round in 0..20 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || Store::<Participant>::open(folder.path(), "participant").expect("a store");
        thread::scope(|scope| {
            for instance in 0..4 {
                let store = open();
                let op = if instance % 2 == 0 { "try" } else { "cancel" };
                scope.spawn(move || {
                    let change = |participant: &mut Participant| Ok::<_, ()>(participant.call(op, false).is_ok());
                    store.change(change).expect("the store works")
                });
            }
        });
        let participant = open().read(Participant::clone).expect("the store works");
        assert_eq!(participant.business.held, 0, "round {round}: {participant:?}");
        assert_eq!(participant.ran("try"), participant.ran("cancel"), "round {round}: {participant:?}");
    }
}
