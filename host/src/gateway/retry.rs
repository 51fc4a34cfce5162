//! A failed attempt: what is known of it, what the failover policy makes of that, and what the host allows.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    attempt::Cause,
    body::grpc_status,
    outbound::Outbound,
    request::{Answered, Course, Exchange},
    respond::Failure,
    state::{ServiceState, WorkerState},
    upstream::ConnectError,
};
use crate::{
    model::{Outcome, ServiceName, Slot},
    plugin::{FailedAttempt, Verdict},
};

/// What comes after a failed attempt.
pub enum Next {
    /// Another one.
    Again,
    /// It is the client's.
    PassOn(Box<Result<Answered, Failure>>),
}

/// gRPC A6: how long a client shall wait before it tries again; below 0, or no number: not at all.
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What a failed attempt tells.
struct Known {
    slot: Option<Slot>,
    outcome: Outcome,
    status: Option<u16>,
    grpc_status: Option<u8>,
    retry_after_ms: Option<u32>,
    /// Whether the endpoint itself says that nobody shall try again.
    forbids: bool,
}

/// Asks the failover policy, and does what it says as far as that may be. Waits as long as it says.
pub async fn next<'s>(
    exchange: &mut Exchange,
    state: &'s WorkerState,
    course: &mut Course<'s>,
    outbound: &mut Outbound,
    failed: Result<Answered, Failure>,
) -> Next {
    let Some(known) = Known::of(&failed, course.last_tried()) else { return Next::PassOn(Box::new(failed)) };
    if is_crowded(&failed) {
        // Nothing was sent, and nothing is wrong with the endpoint: it was no attempt.
        course.attempts = course.attempts.saturating_sub(1);
        if outbound.is_at_hand() && course.service.snapshot.fit(&course.asked.tried).next().is_some() {
            return course.again(exchange.worker());
        }
        return Next::PassOn(Box::new(Err(course.shed())));
    }
    let limits = &course.service.snapshot.config.retry;
    let (shared, now_us) = (&course.service.snapshot.shared, exchange.worker().clock.now_us());
    let remaining = course.deadline.remaining();
    let repeatable = outbound.may_be_sent_again() && !known.forbids && !remaining.is_zero();
    let mut retries_left = limits.attempts_max.saturating_sub(course.attempts);
    if known.slot.is_none() {
        retries_left = 0;
    } else if repeatable && retries_left > 0 && !shared.budget.has_left(limits, now_us) {
        shared.counts.over_budget.add(1);
        retries_left = 0;
    }
    let failure = FailedAttempt {
        now_us,
        random: exchange.worker().random(),
        slot: known.slot,
        outcome: known.outcome,
        status: known.status,
        grpc_status: known.grpc_status,
        retry_after_ms: known.retry_after_ms,
        attempts: course.attempts,
        remaining_us: u64::try_from(remaining.as_micros()).unwrap_or(u64::MAX),
        repeatable,
        retries_left,
    };
    match decide(exchange, course, &failure) {
        Verdict::GiveUp => Next::PassOn(Box::new(failed)),
        Verdict::Retry { after_us } => {
            let after = Duration::from_micros(u64::from(after_us));
            if !failure.repeatable || failure.retries_left == 0 {
                shared.counts.invalid_verdicts.add(1);
                return Next::PassOn(Box::new(failed));
            }
            if after >= remaining {
                // It could not be answered in time.
                return Next::PassOn(Box::new(failed));
            }
            if !shared.budget.spend(limits, now_us) {
                shared.counts.over_budget.add(1);
                return Next::PassOn(Box::new(failed));
            }
            shared.counts.retries.add(1);
            take_back(outbound, failed);
            // What the failed attempt held is given up before the wait.
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            exchange.retries += 1;
            course.again(exchange.worker())
        }
        Verdict::FallBack(name) => {
            let Some(other) = other_service(state, course, &name).filter(|_| failure.repeatable) else {
                shared.counts.invalid_verdicts.add(1);
                return Next::PassOn(Box::new(failed));
            };
            take_back(outbound, failed);
            if !readdress(course.service, other, outbound) {
                return Next::PassOn(Box::new(Err(Failure::Upgrade(other.snapshot.config.name.clone()))));
            }
            shared.counts.fall_backs.add(1);
            other.snapshot.shared.budget.request(exchange.worker().id);
            course.fall_back(other, exchange.worker())
        }
    }
}

/// The policy's verdict, or the gateway's own where it cannot say.
fn decide(exchange: &Exchange, course: &Course<'_>, failure: &FailedAttempt) -> Verdict {
    let arm = course.service.failover.arm(course.service.failover.tries(course.pick.hash));
    let said = exchange.worker().call(course.service, arm, |instance| {
        arm.cells.decisions.add(1);
        instance.decide(failure)
    });
    said.unwrap_or_else(|| {
        arm.cells.fallbacks.add(1);
        native_verdict(failure)
    })
}

/// Without a policy: what nginx does by default. What failed without an answer is tried again at once.
pub fn native_verdict(failure: &FailedAttempt) -> Verdict {
    let without_answer = matches!(failure.outcome, Outcome::ConnectFailed | Outcome::Reset | Outcome::TimedOut);
    let again = failure.repeatable && failure.retries_left > 0 && without_answer;
    if again { Verdict::Retry { after_us: 0 } } else { Verdict::GiveUp }
}

/// One level deep, and to another service.
fn other_service<'s>(state: &'s WorkerState, course: &Course<'s>, name: &str) -> Option<&'s Rc<ServiceState>> {
    let name: ServiceName = name.parse().ok()?;
    let other = state.service(&name)?;
    (!course.fell_back && !Rc::ptr_eq(other, course.service)).then_some(other)
}

fn readdress(from: &ServiceState, to: &ServiceState, outbound: &mut Outbound) -> bool {
    let protocol = to.snapshot.config.protocol;
    from.snapshot.config.protocol == protocol || outbound.address_to(protocol)
}

/// An answer has come, and is not taken: what was sent for it may be sent again. Not before that is certain, as the
/// endpoint may still be reading what it has answered already.
fn take_back(outbound: &mut Outbound, failed: Result<Answered, Failure>) {
    if let Ok(answered) = failed {
        outbound.give_back(None);
        answered.discard();
    }
}

/// Whether the endpoint had as many connections as it may have.
fn is_crowded(failed: &Result<Answered, Failure>) -> bool {
    matches!(failed, Err(Failure::Attempt { cause: Cause::Connect(ConnectError::TooMany(_)), .. }))
}

impl Known {
    /// None where nobody is to be asked: the time is over, the client is to blame, or nothing may be added.
    fn of(failed: &Result<Answered, Failure>, tried: Option<Slot>) -> Option<Self> {
        let bare = |slot, outcome| Self {
            slot,
            outcome,
            status: None,
            grpc_status: None,
            retry_after_ms: None,
            forbids: false,
        };
        match failed {
            Ok(answered) => {
                let headers = answered.response.headers();
                let (retry_after_ms, forbids) = push_back(headers);
                Some(Self {
                    status: Some(answered.response.status().as_u16()),
                    grpc_status: grpc_status(headers),
                    retry_after_ms,
                    forbids,
                    ..bare(tried, answered.attempt.outcome()?)
                })
            }
            Err(Failure::NoEndpoint(_)) => Some(bare(None, Outcome::ConnectFailed)),
            Err(Failure::Attempt { cause, .. }) => Some(bare(tried, cause.outcome())),
            Err(_) => None,
        }
    }
}

/// After how many milliseconds the endpoint would be tried again, and whether it forbids that.
fn push_back(headers: &HeaderMap) -> (Option<u32>, bool) {
    match headers.get(&GRPC_PUSHBACK) {
        Some(value) => {
            let ms = number(value);
            (ms, ms.is_none())
        }
        None => (headers.get(header::RETRY_AFTER).and_then(retry_after_ms), false),
    }
}

fn number(value: &HeaderValue) -> Option<u32> {
    value.to_str().ok()?.trim().parse().ok()
}

/// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after_ms(value: &HeaderValue) -> Option<u32> {
    if let Some(seconds) = number(value) {
        return Some(seconds.saturating_mul(1_000));
    }
    let at = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    let wait = at.duration_since(std::time::SystemTime::now()).unwrap_or_default();
    Some(u32::try_from(wait.as_millis()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(name: HeaderName, value: &'static str) -> (Option<u32>, bool) {
        push_back(&[(name, HeaderValue::from_static(value))].into_iter().collect())
    }

    #[test]
    fn what_an_endpoint_says_of_trying_again_is_read() {
        assert_eq!(reads(header::RETRY_AFTER, "2"), (Some(2_000), false));
        assert_eq!(reads(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT"), (Some(0), false));
        assert_eq!(reads(header::RETRY_AFTER, "99999999999"), (None, false));
        assert_eq!(reads(header::RETRY_AFTER, "soon"), (None, false));
        assert_eq!(reads(GRPC_PUSHBACK, "25"), (Some(25), false));
        assert_eq!(reads(GRPC_PUSHBACK, "-1"), (None, true));
        assert_eq!(reads(GRPC_PUSHBACK, "later"), (None, true));
    }
}
