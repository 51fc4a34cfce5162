//! A second copy of a request, sent before the first has failed: whichever answers well first is taken.

use std::{
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    attempt::{Attempt, Sent},
    outbound::Outbound,
    pick::Picked,
    request::{Answered, Course, Exchange},
    respond::Failure,
    upstream::{EndpointLane, Outgoing},
};

/// After how long without a response head a second copy is sent; none where none is.
pub fn due_after(course: &Course<'_>, outbound: &Outbound) -> Option<Duration> {
    let failover = &course.service.failover;
    let after_us = failover.arm(failover.tries(course.pick.hash)).hedge_after_us.get()?;
    let attempts_max = course.service.snapshot.config.retry.attempts_max;
    (outbound.may_be_repeated() && course.attempts + 1 < attempts_max)
        .then(|| Duration::from_micros(u64::from(after_us)))
}

/// The second attempt, and what it is to send.
struct Second {
    attempt: Attempt,
    lane: Rc<EndpointLane>,
    request: Option<Outgoing>,
}

/// One attempt, and a second one beside it if the first has not answered in time. The one that is not taken is
/// cancelled, and says nothing against its endpoint.
pub async fn attempt(
    exchange: &mut Exchange,
    course: &mut Course<'_>,
    picked: Picked,
    outbound: &mut Outbound,
    after: Duration,
) -> Result<Answered, Failure> {
    let lane = Rc::clone(&picked.lane);
    let first = exchange.begin_attempt(course, picked);
    let request = outbound.take(&course.deadline);
    let asker = exchange.asker.clone();
    let (over_at, patience) = course.try_times();
    let mut second = None;
    let sent = {
        let at_hand = &*outbound;
        let sending = pin!(first.send(&lane, request, over_at));
        let mut sending = pin!(at_hand.within(over_at, patience, asker.timer(), sending));
        let in_time = tokio::select! {
            biased;
            sent = &mut sending => Some(sent),
            () = tokio::time::sleep(after) => None,
        };
        if in_time.is_none() {
            second = begin_second(exchange, course, at_hand);
        }
        match (in_time, &mut second) {
            (Some(sent), _) => Ended { first: Some(sent), second: None },
            (None, None) => Ended { first: Some(sending.await), second: None },
            (None, Some(second)) => {
                let request = second.request.take().expect("it is sent once");
                let (over_at, patience) = course.try_times();
                let other = pin!(second.attempt.send(&second.lane, request, over_at));
                let other = pin!(at_hand.within(over_at, patience, asker.timer(), other));
                race(sending, &first, other, &second.attempt).await
            }
        }
    };
    let first_is_well = sent.first.as_ref().is_some_and(|sent| is_well(sent, &first));
    let one = sent.first.map(|sent| exchange.conclude(course, &lane, first, sent, outbound));
    let other = second.zip(sent.second);
    // Whoever has not ended was cancelled by being dropped.
    let other = other.map(|(second, sent)| exchange.conclude(course, &second.lane, second.attempt, sent, outbound));
    let (taken, left) = if first_is_well || other.is_none() { (one, other) } else { (other, one) };
    if let Some(Ok(left)) = left {
        left.discard();
    }
    let taken = taken.expect("a race ends when one has");
    if !first_is_well && taken.as_ref().is_ok_and(|answered| !answered.has_failed()) && course.attempts > 1 {
        course.service.snapshot.shared.counts.hedges_won.add(1);
    }
    taken
}

/// What has ended of a race, and how. The inner none: it let its time pass.
struct Ended {
    first: Option<Option<Sent>>,
    second: Option<Option<Sent>>,
}

/// Until one has answered well, or both have failed.
async fn race(
    mut first: Pin<&mut impl Future<Output = Option<Sent>>>,
    first_attempt: &Attempt,
    mut second: Pin<&mut impl Future<Output = Option<Sent>>>,
    second_attempt: &Attempt,
) -> Ended {
    let mut ended = Ended { first: None, second: None };
    loop {
        tokio::select! {
            biased;
            sent = &mut first, if ended.first.is_none() => {
                let over = is_well(&sent, first_attempt) || ended.second.is_some();
                ended.first = Some(sent);
                if over { return ended; }
            }
            sent = &mut second, if ended.second.is_none() => {
                let over = is_well(&sent, second_attempt) || ended.first.is_some();
                ended.second = Some(sent);
                if over { return ended; }
            }
        }
    }
}

fn is_well(sent: &Option<Sent>, attempt: &Attempt) -> bool {
    matches!(sent, Some(Ok(_))) && attempt.outcome().is_some_and(|outcome| !outcome.is_failure())
}

/// None where the body has not come whole, the budget is spent, or there is no other endpoint.
fn begin_second(exchange: &mut Exchange, course: &mut Course<'_>, outbound: &Outbound) -> Option<Second> {
    let shared = Arc::clone(&course.service.snapshot.shared);
    let (limits, now_us) = (&course.service.snapshot.config.retry, exchange.worker().clock.now_us());
    if !outbound.is_whole() || course.service.snapshot.fit(&course.asked.tried).next().is_none() {
        return None;
    }
    if !shared.budget.has_left(limits, now_us) {
        shared.counts.over_budget.add(1);
        return None;
    }
    course.again(exchange.worker());
    let picked = exchange.pick_now(course, outbound).ok()?;
    // Another worker may have spent the last of it meanwhile.
    if !shared.budget.spend(limits, now_us) {
        return None;
    }
    let request = Some(outbound.copy(&course.deadline)?);
    shared.counts.hedges.add(1);
    let lane = Rc::clone(&picked.lane);
    Some(Second { attempt: exchange.begin_attempt(course, picked), lane, request })
}
