//! An endpoint: slots that work, a queue before them, and what fails of it when.

use std::collections::{BTreeMap, VecDeque};

use super::{
    events::BEGIN_US,
    scenario::{EndpointModel, Failure, FailureKind, Slowness},
    service_time::whole_us,
};
use crate::model::InstantUs;

/// An attempt's number in a run.
pub type AttemptId = usize;

/// One simulated endpoint.
#[derive(Debug)]
pub struct Server<'a> {
    model: &'a EndpointModel,
    failures: Vec<Window<'a>>,
    /// The status that each will be answered with.
    working: BTreeMap<AttemptId, u16>,
    waiting: VecDeque<Job>,
}

#[derive(Debug)]
struct Window<'a> {
    from_us: InstantUs,
    until_us: InstantUs,
    kind: &'a FailureKind,
}

/// A request on its way into an endpoint.
#[derive(Debug)]
pub struct Job {
    pub attempt: AttemptId,
    /// Of its service time.
    pub random: fastrand::Rng,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub enum Taken {
    /// The connection is refused.
    Refused,
    /// The queue is full: answered 503 at once.
    Full,
    Waits,
    Begun(Begun),
}

/// Work that will be done at an instant, unless the endpoint dies before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    pub attempt: AttemptId,
    pub done_us: InstantUs,
}

impl<'a> Server<'a> {
    pub fn new(model: &'a EndpointModel, failures: impl Iterator<Item = &'a Failure>) -> Self {
        let since_begin = |at: std::time::Duration| BEGIN_US + u64::try_from(at.as_micros()).unwrap_or(u64::MAX / 2);
        let windows = failures.map(|failure| Window {
            from_us: since_begin(failure.from),
            until_us: since_begin(failure.until),
            kind: &failure.kind,
        });
        Self { model, failures: windows.collect(), working: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// When it dies, each time.
    pub fn deaths(&self) -> impl Iterator<Item = InstantUs> {
        self.failures.iter().filter(|window| matches!(window.kind, FailureKind::Dead)).map(|window| window.from_us)
    }

    pub fn take(&mut self, job: Job, now_us: InstantUs) -> Taken {
        if self.failing(now_us).any(|kind| matches!(kind, FailureKind::Dead)) {
            Taken::Refused
        } else if self.working.len() < self.model.slots {
            Taken::Begun(self.begin(job, now_us))
        } else if self.waiting.len() < self.model.queue_max {
            self.waiting.push_back(job);
            Taken::Waits
        } else {
            Taken::Full
        }
    }

    /// The answer's status, and what is begun in its place; none where it has lost the request meanwhile.
    pub fn done(&mut self, attempt: AttemptId, now_us: InstantUs) -> Option<(u16, Option<Begun>)> {
        let status = self.working.remove(&attempt)?;
        Some((status, self.begin_next(now_us)))
    }

    /// Nobody waits for this one any more, and it stops its work; what is begun in its place.
    pub fn stop(&mut self, attempt: AttemptId, now_us: InstantUs) -> Option<Begun> {
        if self.working.remove(&attempt).is_some() {
            return self.begin_next(now_us);
        }
        self.waiting.retain(|job| job.attempt != attempt);
        None
    }

    /// It dies: all that it had.
    pub fn die(&mut self) -> Vec<AttemptId> {
        let working = std::mem::take(&mut self.working).into_keys();
        working.chain(self.waiting.drain(..).map(|job| job.attempt)).collect()
    }

    fn begin_next(&mut self, now_us: InstantUs) -> Option<Begun> {
        let job = self.waiting.pop_front()?;
        Some(self.begin(job, now_us))
    }

    fn begin(&mut self, Job { attempt, mut random }: Job, now_us: InstantUs) -> Begun {
        // Drawn in any case, so that a failure changes nothing but what it is about.
        let mut work_us = self.model.service.draw_us(&mut random);
        let mut status = 200;
        for kind in self.failing(now_us) {
            match kind {
                FailureKind::Slow(Slowness::Times(factor)) => work_us = scaled(work_us, *factor),
                FailureKind::Slow(Slowness::Service(service)) => work_us = service.draw_us(&mut random),
                FailureKind::Errors { share, status: error, service } if random.f64() < *share => {
                    status = *error;
                    work_us = service.as_ref().map_or(work_us, |service| service.draw_us(&mut random));
                }
                FailureKind::Errors { .. } | FailureKind::Dead | FailureKind::BlackHole => {}
            }
        }
        self.working.insert(attempt, status);
        Begun { attempt, done_us: self.after_work(now_us, work_us) }
    }

    /// When so much work is done that begins now: none is while the endpoint is a black hole.
    fn after_work(&self, now_us: InstantUs, work_us: u64) -> InstantUs {
        let mut done_us = now_us + work_us;
        let holes = self.failures.iter().filter(|window| matches!(window.kind, FailureKind::BlackHole));
        let mut holes: Vec<_> = holes.map(|window| (window.from_us, window.until_us)).collect();
        holes.sort_unstable();
        let mut over_us = now_us;
        for (from_us, until_us) in holes {
            // Of those that overlap, each instant counts once.
            let from_us = from_us.max(over_us);
            if from_us < done_us && from_us < until_us {
                done_us += until_us - from_us;
                over_us = until_us;
            }
        }
        done_us
    }

    fn failing(&self, now_us: InstantUs) -> impl Iterator<Item = &'a FailureKind> {
        self.failures.iter().filter(move |window| (window.from_us..window.until_us).contains(&now_us)).map(|w| w.kind)
    }
}

#[expect(clippy::cast_precision_loss, reason = "service times are far below 2^52 microseconds")]
fn scaled(us: u64, factor: f64) -> u64 {
    whole_us(us as f64 * factor)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{model::Weight, simulator::service_time::ServiceTime};

    const MS_US: u64 = 1_000;

    fn model(slots: usize, queue_max: usize) -> EndpointModel {
        let service = ServiceTime::Constant { mean: Duration::from_millis(10) };
        EndpointModel { slots, queue_max, weight: Weight::ONE, service }
    }

    fn failure(from_ms: u64, until_ms: u64, kind: FailureKind) -> Failure {
        Failure { endpoint: 0, from: Duration::from_millis(from_ms), until: Duration::from_millis(until_ms), kind }
    }

    fn job(attempt: AttemptId) -> Job {
        Job { attempt, random: fastrand::Rng::with_seed(1) }
    }

    fn at(ms: u64) -> InstantUs {
        BEGIN_US + ms * MS_US
    }

    /// Milliseconds until what is begun at `ms` is done.
    fn takes_ms(server: &mut Server<'_>, ms: u64) -> u64 {
        match server.take(job(0), at(ms)) {
            Taken::Begun(begun) => (begun.done_us - at(ms)) / MS_US,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slots_work_and_the_queue_waits_in_order_up_to_its_bound() {
        let model = model(1, 2);
        let mut server = Server::new(&model, [].into_iter());
        assert!(matches!(server.take(job(1), at(0)), Taken::Begun(Begun { attempt: 1, .. })));
        assert!(matches!(server.take(job(2), at(1)), Taken::Waits));
        assert!(matches!(server.take(job(3), at(1)), Taken::Waits));
        assert!(matches!(server.take(job(4), at(1)), Taken::Full));
        let begun = Begun { attempt: 2, done_us: at(20) };
        assert_eq!(server.done(1, at(10)), Some((200, Some(begun))));
        assert_eq!(server.stop(2, at(11)), Some(Begun { attempt: 3, done_us: at(21) }));
        assert_eq!(server.done(2, at(20)), None, "it was stopped");
        assert_eq!(server.done(3, at(21)), Some((200, None)));
    }

    #[test]
    fn a_black_hole_does_no_work_and_loses_none() {
        let model = model(8, 0);
        let holes = [failure(100, 200, FailureKind::BlackHole), failure(150, 300, FailureKind::BlackHole)];
        let mut server = Server::new(&model, holes.iter());
        assert_eq!(takes_ms(&mut server, 90), 10);
        assert_eq!(takes_ms(&mut server, 95), 210);
        assert_eq!(takes_ms(&mut server, 299), 11);
        assert_eq!(takes_ms(&mut server, 300), 10);
    }

    #[test]
    fn the_dead_refuse_and_what_they_had_is_lost() {
        let model = model(1, 2);
        let deaths = [failure(5, 20, FailureKind::Dead)];
        let mut server = Server::new(&model, deaths.iter());
        assert_eq!(server.deaths().collect::<Vec<_>>(), [at(5)]);
        server.take(job(1), at(0));
        server.take(job(2), at(1));
        assert_eq!(server.die(), [1, 2]);
        assert!(matches!(server.take(job(3), at(5)), Taken::Refused));
        assert_eq!(takes_ms(&mut server, 20), 10);
        assert_eq!(server.done(1, at(20)), None);
    }

    #[test]
    fn slowness_and_errors_hold_for_what_is_begun_meanwhile() {
        let model = model(8, 0);
        let service = ServiceTime::Constant { mean: Duration::from_millis(1) };
        let failures = [
            failure(10, 20, FailureKind::Slow(Slowness::Times(3.0))),
            failure(20, 30, FailureKind::Slow(Slowness::Service(service.clone()))),
            failure(30, 40, FailureKind::Errors { share: 1.0, status: 500, service: Some(service) }),
        ];
        let mut server = Server::new(&model, failures.iter());
        assert_eq!([0, 10, 20, 30, 40].map(|ms| takes_ms(&mut server, ms)), [10, 30, 1, 1, 10]);
        server.take(job(7), at(35));
        assert_eq!(server.done(7, at(36)), Some((500, None)));
    }
}
