//! Webhooks: groups that the gateway consumes itself, by calls (CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", 1.0.2).
//!
//! ```text
//!  OPTIONS WebHook-Request-Origin ──▶ WebHook-Allowed-Origin: the origin, or * ──▶ POST, binary mode ──▶ 2xx      acknowledged
//!        ▲ else asked again, later                                                    ├──▶ 410                     stopped
//!        └──────────────────────────────────────────────────────────────────────      ├──▶ 429, 503 + Retry-After  all wait
//!                                                                                     └──▶ anything else           retried
//! ```

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::RETRY_AFTER};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    core::{Core, stopped},
    group::Group,
    record::{Definition, Stopped},
    scribe::Ask,
    settings::Webhook,
    shown::Pushing,
    state::{Delivery, How},
};
use crate::{
    events::{cloud_events::to_binary, handlers::OutgoingCall},
    model::{GroupName, OwnAnswer, backoff},
};

/// Calls of one webhook at once, each of another stream.
const PUSHES_MAX: usize = 16;

/// Beyond the time that a call may take, so that its lease does not run out while it is settled.
const LEASE_GRACE: Duration = Duration::from_secs(10);

/// Of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Shortest pause of a receiver that wants one: a date may have passed on the way, and `0` would be called in a circle.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// Longest pause that a receiver is believed to want.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// The name under which the gateway consumes.
const CONSUMER: &str = "webhook";

const REQUEST_ORIGIN: &str = "webhook-request-origin";
const REQUEST_RATE: &str = "webhook-request-rate";
const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// A task for each webhook there is, until it is time to stop.
pub(super) async fn run(core: Arc<Core>) {
    let mut shutdown = core.shutdown.subscribe();
    let (mut tasks, mut running) = (JoinSet::new(), BTreeMap::<GroupName, tokio::task::Id>::new());
    loop {
        let groups: Vec<_> = core.groups().values().cloned().collect();
        for group in groups {
            if wanted(&group).is_some() && !running.contains_key(&group.name) {
                let pusher = Pusher { group: Arc::clone(&group), shutdown: shutdown.clone() };
                running.insert(group.name.clone(), tasks.spawn(pusher.run()).id());
            }
        }
        let ended = tokio::select! {
            () = stopped(&mut shutdown) => break,
            () = core.defined.notified() => continue,
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => ended,
        };
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        running.retain(|_, task| *task != id);
    }
    // Each sees that it is to stop.
    while tasks.join_next().await.is_some() {}
}

/// Where it is pushed to, if it is.
fn wanted(group: &Group) -> Option<(Webhook, Duration)> {
    let state = group.lock();
    let Definition { settings, stopped, .. } = &state.definition;
    let is_there = state.is_defined && !state.is_gone && stopped.is_none();
    Some((settings.webhook.clone().filter(|_| is_there)?, settings.ack_timeout))
}

/// Pushes one group.
struct Pusher {
    group: Arc<Group>,
    shutdown: watch::Receiver<bool>,
}

/// What came of a call.
enum Pushed {
    Settled,
    /// It could not be made durable what came of it.
    NotKept,
    /// The receiver wants nothing for this time.
    NotFor(Duration),
    Gone,
}

impl Pusher {
    /// As long as there is something to be pushed.
    async fn run(mut self) {
        let mut revised = self.group.revised.subscribe();
        loop {
            // First: what is set after that is seen as a change.
            revised.borrow_and_update();
            let Some((webhook, timeout)) = wanted(&self.group) else { break };
            let url = webhook.url.clone();
            let call = Call { group: Arc::clone(&self.group), webhook, timeout };
            let gone = tokio::select! {
                biased;
                () = stopped(&mut self.shutdown) => break,
                changed = revised.changed() => if changed.is_ok() { false } else { break },
                () = call.push_on() => true,
            };
            // Calls that were broken off may have arrived: they are made again.
            self.group.release(CONSUMER);
            if gone {
                self.stop(url).await;
            }
        }
        self.group.lock().pushing = None;
    }

    /// Durably, until somebody sets it again.
    async fn stop(&mut self, url: String) {
        let at_ms = self.group.core.wall.now_ms();
        let reason = "its receiver answered 410 Gone: it wants no more events; PUT the group again to go on".to_owned();
        if let Err(error) = self.group.ask(Ask::Stop { url, stopped: Stopped { reason, at_ms } }).await {
            tracing::warn!(group = %self.group.name, %error, "a webhook that is to stop could not be stopped durably");
            let pause = self.group.core.pause(1, backoff::BASE);
            tokio::select! {
                () = stopped(&mut self.shutdown) => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// What is needed for a call.
#[derive(Clone)]
struct Call {
    group: Arc<Group>,
    webhook: Webhook,
    timeout: Duration,
}

impl Call {
    /// Until the receiver is gone.
    async fn push_on(self) {
        let apart = self.shake_hands().await;
        self.doing(Pushing::Sending);
        let (consumer, lease) = (Arc::<str>::from(CONSUMER), self.timeout + LEASE_GRACE);
        let (mut pushes, mut not_before, mut failed) = (JoinSet::new(), Instant::now(), 0);
        loop {
            let may_push = pushes.len() < PUSHES_MAX && Instant::now() >= not_before;
            let limit = if apart.is_zero() { PUSHES_MAX - pushes.len() } else { 1 };
            tokio::select! {
                biased;
                Some(pushed) = pushes.join_next(), if !pushes.is_empty() => match pushed.unwrap_or(Pushed::NotKept) {
                    Pushed::Settled => failed = 0,
                    Pushed::Gone => return,
                    Pushed::NotFor(time) => {
                        failed += 1;
                        let time = time.max(self.group.core.pause(failed, backoff::BASE));
                        not_before = not_before.max(Instant::now() + time);
                        self.doing(Pushing::Paused);
                    }
                    Pushed::NotKept => {
                        failed += 1;
                        not_before = not_before.max(Instant::now() + self.group.core.pause(failed, backoff::BASE));
                    }
                },
                taken = self.group.take(&consumer, limit, None, lease), if may_push => match taken {
                    Ok(deliveries) => {
                        self.doing(Pushing::Sending);
                        not_before = not_before.max(Instant::now() + apart);
                        deliveries.into_iter().for_each(|one| drop(pushes.spawn(self.clone().push(one))));
                    }
                    // It is said where groups are shown.
                    Err(_) => {
                        failed += 1;
                        not_before = not_before.max(Instant::now() + self.group.core.pause(failed, backoff::BASE));
                    }
                },
                () = sleep_until(not_before), if !may_push && pushes.len() < PUSHES_MAX => {}
            }
        }
    }

    /// Until the receiver allows it; answers how long deliveries are apart.
    async fn shake_hands(&self) -> Duration {
        for failed in 1.. {
            self.doing(Pushing::ShakingHands);
            let why = match self.ask().await {
                Ok(rate) => {
                    self.group.lock().recover();
                    return rate.map_or(Duration::ZERO, |rate| Duration::from_secs(60) / rate.max(1));
                }
                Err(why) => why,
            };
            self.doing(Pushing::Refused);
            self.fail(format!("the receiver does not allow deliveries: {why}"));
            sleep(self.group.core.pause(failed, backoff::BASE)).await;
        }
        Duration::ZERO
    }

    /// Deliveries a minute that it allows; None: as many as there are.
    async fn ask(&self) -> Result<Option<u32>, String> {
        let mut headers = vec![(REQUEST_ORIGIN.to_owned(), self.webhook.origin.clone())];
        headers.extend(self.webhook.rate.map(|rate| (REQUEST_RATE.to_owned(), rate.to_string())));
        let answer = self.send(Method::OPTIONS, headers, Bytes::new(), HANDSHAKE_TIMEOUT).await?;
        allowed(&self.webhook, &answer)
    }

    async fn push(self, delivery: Delivery) -> Pushed {
        let (headers, body) = to_binary(&delivery.event);
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let mut headers: Vec<_> =
            headers.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect();
        headers.push((REQUEST_ORIGIN.to_owned(), self.webhook.origin.clone()));
        let answer = self.send(Method::POST, headers, body, self.timeout).await;
        let Some((how, pushed)) = self.understood(answer) else { return Pushed::Gone };
        match (pushed, self.group.settle(&[(delivery.token, how)]).await) {
            (Pushed::Settled, Err(_)) => Pushed::NotKept,
            (pushed, _) => pushed,
        }
    }

    /// What an answer means for the event, and for those after it. None: the receiver is gone.
    fn understood(&self, answer: Result<OwnAnswer, String>) -> Option<(How, Pushed)> {
        let why = match answer {
            Ok(answer) if answer.status.is_success() => return Some((How::Ack, Pushed::Settled)),
            Ok(answer) if answer.status == StatusCode::GONE => return None,
            Ok(answer) => {
                let why = format!("{} answered {}", self.webhook.url, answer.status);
                let says_when = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
                if says_when.contains(&answer.status)
                    && let Some(time) = retry_after(&answer.headers, SystemTime::now())
                {
                    self.fail(format!("{why}, and wants nothing for {} s", time.as_secs()));
                    return Some((How::Later(time), Pushed::NotFor(time)));
                }
                why
            }
            Err(why) => format!("{}: {why}", self.webhook.url),
        };
        self.fail(why.clone());
        Some((How::Retry(Some(why)), Pushed::Settled))
    }

    async fn send(
        &self,
        method: Method,
        headers: Vec<(String, String)>,
        body: Bytes,
        timeout: Duration,
    ) -> Result<OwnAnswer, String> {
        let url = self.webhook.url.clone();
        // What is allowed may have changed since it was set.
        self.group.core.caller.check(&url)?;
        self.group.core.caller.call(OutgoingCall { method, url, headers, body, timeout }).await
    }

    fn doing(&self, pushing: Pushing) {
        self.group.lock().pushing = Some(pushing);
    }

    fn fail(&self, message: String) {
        self.group.lock().fail(self.group.core.wall.now_ms(), message);
    }
}

/// The answer to a handshake: the rate that is allowed, or why nothing is.
fn allowed(webhook: &Webhook, answer: &OwnAnswer) -> Result<Option<u32>, String> {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if !answer.status.is_success() {
        return Err(format!("OPTIONS {} was answered with {}", webhook.url, answer.status));
    }
    match header(ALLOWED_ORIGIN) {
        Some(origin) if origin == "*" || origin.eq_ignore_ascii_case(&webhook.origin) => {}
        Some(other) => return Err(format!("{ALLOWED_ORIGIN} is {other:?}, and not {:?}", webhook.origin)),
        None => return Err(format!("the answer to OPTIONS has no {ALLOWED_ORIGIN}")),
    }
    match header(ALLOWED_RATE) {
        Some("*") => Ok(None),
        // What was asked for is kept to where it is not said.
        None => Ok(webhook.rate),
        Some(given) => match given.parse::<u32>() {
            Ok(rate) if rate > 0 => Ok(Some(webhook.rate.map_or(rate, |asked| asked.min(rate)))),
            _ => Err(format!("{ALLOWED_RATE} is {given:?}, and neither a number above 0 nor \"*\"")),
        },
    }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let given = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let time = match given.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(given).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(time.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> OwnAnswer {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let status = StatusCode::from_u16(status).expect("a status");
        OwnAnswer { status, headers: headers.collect(), body: Bytes::new() }
    }

    #[test]
    fn only_a_receiver_that_says_so_gets_events_and_no_faster_than_it_says() {
        let mut webhook = Webhook::to("service://billing/".to_owned());
        let all = (ALLOWED_ORIGIN, "*");
        assert_eq!(allowed(&webhook, &answer(200, &[all])), Ok(None));
        assert_eq!(allowed(&webhook, &answer(204, &[(ALLOWED_ORIGIN, "Sluice"), (ALLOWED_RATE, "*")])), Ok(None));
        assert_eq!(allowed(&webhook, &answer(200, &[all, (ALLOWED_RATE, "120")])), Ok(Some(120)));
        webhook.rate = Some(60);
        assert_eq!(allowed(&webhook, &answer(200, &[all])), Ok(Some(60)));
        assert_eq!(allowed(&webhook, &answer(200, &[all, (ALLOWED_RATE, "120")])), Ok(Some(60)));
        for refused in [
            answer(200, &[]),
            answer(200, &[(ALLOWED_ORIGIN, "other.example.com")]),
            answer(405, &[all]),
            answer(200, &[all, (ALLOWED_RATE, "0")]),
            answer(200, &[all, (ALLOWED_RATE, "many")]),
        ] {
            assert!(allowed(&webhook, &refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_and_not_for_ever() {
        let now = httpdate::parse_http_date("Tue, 01 Dec 2026 08:00:00 GMT").expect("a date");
        for (given, seconds) in [
            ("7", Some(7)),
            ("999999999", Some(3_600)),
            ("Tue, 01 Dec 2026 08:00:30 GMT", Some(30)),
            ("0", Some(1)),
            ("Tue, 01 Dec 2026 07:00:00 GMT", Some(1)),
            ("soon", None),
        ] {
            let headers = answer(503, &[("retry-after", given)]).headers;
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{given}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
