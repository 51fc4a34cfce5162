//! Following the events as server-sent events (HTML standard, 9.2): what is there, then what comes, with the position as
//! the one that resumes.
//!
//! The body is made as the connection takes it: a client that does not read holds the events that were taken for it at once,
//! 256 KiB or one, and what the sockets hold, and nothing more is read for it until it goes on. Nothing that writes ever waits for it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    error,
    query::{After, FollowQuery},
};
use crate::{
    control::{
        api::{problem::Problem, server::until_true},
        events::{EventSide, SUBSCRIBERS_MAX},
    },
    events::{ReadError, Subscription, cloud_events::to_json},
    model::{Event, Position},
};

pub const MEDIA_TYPE: &str = "text/event-stream";

/// "Authors can include a comment line every 15 seconds or so" (HTML standard, 9.2.7): proxies close what says nothing.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that are taken at once. They are in memory until the client has read them.
const EVENTS_AT_ONCE: usize = 100;

/// As much is written at once, and the event that goes beyond.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the client waits before it connects again: a gateway is back in about that time.
const RETRY_MS: u32 = 1_000;

/// Begins behind `resumed`, or where the query says.
pub fn follow(
    events: &EventSide,
    query: FollowQuery,
    resumed: Option<Position>,
    shutting_down: watch::Receiver<bool>,
) -> Result<Response, Problem> {
    let head = events.store.head();
    let (place, after) = match (resumed, query.after) {
        (Some(position), _) => ("Last-Event-ID", position),
        (None, After::Position(position)) => ("?after", position),
        (None, After::End) => ("?after", head),
    };
    if after > head {
        return Err(error::of_the_future(place, after.0, head));
    }
    let busy = || {
        let detail = format!("{SUBSCRIBERS_MAX} follow the events already");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    };
    let place = Arc::clone(&events.subscribers).try_acquire_owned().map_err(|_| busy())?;
    let feed = Feed {
        subscription: events.store.subscribe(after, query.filter),
        waiting: VecDeque::new(),
        greeting: Some(format!("retry: {RETRY_MS}\nid: {after}\n\n").into()),
        shutting_down,
        _place: place,
    };
    let body = Body::new(FeedBody(Some(Box::pin(feed.next()))));
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        // Said to proxies that would hold it back until it has ended.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

struct Feed {
    subscription: Subscription,
    waiting: VecDeque<Arc<Event>>,
    /// Sent at once, so that the client knows that it is connected, and from where it resumes if nothing ever comes.
    greeting: Option<Bytes>,
    shutting_down: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// What is sent next; None: it ends, and the client comes back with what it has seen last.
    async fn next(mut self) -> Option<(Self, Bytes)> {
        if let Some(greeting) = self.greeting.take() {
            return Some((self, greeting));
        }
        if self.waiting.is_empty() {
            let followed = tokio::select! {
                biased;
                () = until_true(&mut self.shutting_down) => return None,
                followed = tokio::time::timeout(HEARTBEAT, self.subscription.next(EVENTS_AT_ONCE)) => followed,
            };
            match followed {
                // The position goes on though nothing fits: the client resumes from there.
                Err(_) => {
                    let position = self.subscription.position();
                    return Some((self, format!("id: {position}\n\n").into()));
                }
                Ok(Err(error @ ReadError::Damaged { position, .. })) => {
                    tracing::warn!(%error, "it is passed over for those who follow");
                    self.subscription.pass(Position(position));
                    return Some((self, passed_over(&error, position).into()));
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "events cannot be followed on");
                    return None;
                }
                Ok(Ok(followed)) if followed.events.is_empty() => {
                    return Some((self, format!("id: {}\n\n", followed.position).into()));
                }
                Ok(Ok(followed)) => self.waiting = followed.events.into(),
            }
        } else if *self.shutting_down.borrow() {
            return None;
        }
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES
            && let Some(event) = self.waiting.pop_front()
        {
            write(&event, &mut chunk);
        }
        Some((self, chunk.into()))
    }
}

/// A comment says it to people; the client resumes behind it.
fn passed_over(error: &ReadError, position: u64) -> String {
    let told = error.to_string().replace(['\r', '\n'], " ");
    format!(": {told}\nid: {position}\n\n")
}

/// One event. JSON may have line ends between its tokens, where as many more lines of `data` are as good.
fn write(event: &Event, chunk: &mut Vec<u8>) {
    let json = to_json(event);
    chunk.reserve(json.len() + 64);
    chunk.extend_from_slice(format!("id: {}\n", event.position).as_bytes());
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        chunk.extend_from_slice(b"data: ");
        chunk.extend_from_slice(line);
        chunk.push(b'\n');
    }
    chunk.push(b'\n');
}

type NextChunk = Pin<Box<dyn Future<Output = Option<(Feed, Bytes)>> + Send>>;

/// Asks the feed for more only when the connection has taken what was there.
struct FeedBody(Option<NextChunk>);

impl http_body::Body for FeedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let next = ready!(next.as_mut().poll(context));
        let (following, frame) = match next {
            Some((feed, chunk)) => (Some(Box::pin(feed.next()) as NextChunk), Some(Ok(Frame::data(chunk)))),
            None => (None, None),
        };
        self.0 = following;
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        events::{Append, cloud_events::read_one},
        model::{Draft, Expected, Filter},
        storage::{Batch, Space, Storage, memory::MemoryStorage},
    };

    async fn opened(storage: &MemoryStorage) -> EventSide {
        EventSide::open(Arc::new(storage.clone())).await.expect("it opens")
    }

    async fn append_three(events: &EventSide) {
        let drafts = ["1", "2", "3"].map(|id| {
            Draft::new(id.parse().expect("an id"), "/s".parse().expect("a source"), "t".parse().expect("a type"))
        });
        let append = Append::to("s".parse().expect("a name"), Expected::Any, drafts.into());
        events.store.append(append).await.expect("it is appended");
    }

    /// What is sent from the beginning, until it ends so.
    async fn sent_until(events: &EventSide, types: &[&str], end: &str) -> String {
        let types = types.iter().map(|text| text.parse().expect("a pattern")).collect();
        let query =
            FollowQuery { after: After::Position(Position::START), filter: Filter { types, ..Filter::default() } };
        let (_running, shutting_down) = watch::channel(false);
        let mut body = follow(events, query, None, shutting_down).expect("there is a place").into_body();
        let mut sent = BytesMut::new();
        while !sent.ends_with(end.as_bytes()) {
            let frame = body.frame().await.expect("it goes on").expect("it cannot fail");
            sent.extend(frame.into_data().expect("it is data"));
            assert!(sent.len() < 4_096, "it does not get on: {sent:?}");
        }
        String::from_utf8(sent.into()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_the_connection_says_how_far_it_has_come() {
        let events = opened(&MemoryStorage::new()).await;
        append_three(&events).await;
        let sent = sent_until(&events, &["u"], "id: 3\n\n").await;
        assert_eq!(sent, "retry: 1000\nid: 0\n\nid: 3\n\n");
    }

    #[tokio::test]
    async fn a_damaged_event_is_passed_over_with_a_comment() {
        let storage = MemoryStorage::new();
        let events = opened(&storage).await;
        append_three(&events).await;
        events.close().await;
        let damaged = Batch::new().put(Space::Events, 2_u64.to_be_bytes().to_vec(), "no event");
        storage.commit(damaged).await.expect("it is written");
        let events = opened(&storage).await;
        let sent = sent_until(&events, &[], "\"position\":\"3\"}\n\n").await;
        let comment = sent.split("\n\n").nth(2).expect("a third block");
        assert!(comment.starts_with(": the event at position 2 is damaged"), "{sent}");
        assert!(comment.ends_with("\nid: 2"), "{sent}");
        assert_eq!(sent.matches("data: ").count(), 2);
    }

    #[test]
    fn json_over_several_lines_is_one_event() {
        let body = b"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data\":[1,\r\n2]}";
        let placed = read_one(body, None).expect("right");
        let event =
            Event { position: Position(7), stream: placed.stream, revision: 0, recorded_ms: 0, draft: placed.draft };
        let mut sent = Vec::new();
        write(&event, &mut sent);
        let sent = String::from_utf8(sent).expect("text");
        let mut lines = sent.strip_suffix("\n\n").expect("an end").lines();
        assert_eq!(lines.next(), Some("id: 7"));
        let data: Vec<_> = lines.map(|line| line.strip_prefix("data: ").expect("data")).collect();
        let json: serde_json::Value = serde_json::from_str(&data.join("\n")).expect("JSON");
        assert_eq!(json["data"], serde_json::json!([1, 2]));
    }
}
