//! Calls that the gateway itself makes: on the inner worker, each a task of its own, through the same stages as any
//! request.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, header};
use http_body::Body;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    asker::Caller,
    body::{BodyError, ResponseBody},
    request::{Unanswered, serve_own},
    respond::Failure,
    timer::KeptTimer,
    worker::Worker,
};
use crate::model::{OwnAnswer, OwnCall, OwnCallError};

/// Calls under way at once; more wait for their turn. An own call holds its answer whole, so this bounds memory too; and
/// it is more than one thread has under way at 10 ms an answer.
pub const OWN_CALLS_MAX: usize = 4_096;

/// No call waits longer, whatever it says.
pub const OWN_CALL_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// A call on its way to the inner worker.
pub struct HandedCall {
    pub call: OwnCall,
    pub started: Instant,
    pub reply: oneshot::Sender<Result<OwnAnswer, OwnCallError>>,
    /// Its place among [`OWN_CALLS_MAX`].
    pub permit: OwnedSemaphorePermit,
}

/// Makes a call on this worker. Whoever waits for its answer cancels it by going away.
pub fn begin(worker: &Rc<Worker>, handed: HandedCall) {
    let worker = Rc::clone(worker);
    worker.own_calls.set(worker.own_calls.get() + 1);
    tokio::task::spawn_local(async move {
        let HandedCall { call, started, mut reply, permit } = handed;
        let answered = tokio::select! {
            biased;
            answered = answer(&worker, call, started) => Some(answered),
            () = reply.closed() => None,
        };
        drop(permit);
        if let Some(answered) = answered {
            // Nobody is told who has gone away meanwhile.
            let _ = reply.send(answered);
        }
        worker.own_calls.set(worker.own_calls.get() - 1);
        worker.one_gone.notify_one();
    });
}

async fn answer(worker: &Rc<Worker>, call: OwnCall, started: Instant) -> Result<OwnAnswer, OwnCallError> {
    if worker.state().snapshot.generation == 0 {
        return Err(OwnCallError::Unavailable("the gateway does not serve yet".to_owned()));
    }
    let OwnCall { service, method, path_and_query, headers, body, timeout, repeatable, answer_bytes_max, cuts_answer } =
        call;
    if !path_and_query.path().starts_with('/') {
        return Err(OwnCallError::NotSent(format!("the path {path_and_query:?} does not begin with \"/\"")));
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path_and_query.into();
    *request.headers_mut() = headers;
    say_length(&mut request);
    let timer = KeptTimer::default();
    let caller = Caller { worker: Rc::clone(worker), service, started, timeout, repeatable, timer };
    let (head, body) = serve_own(Rc::new(caller), request).await.map_err(explained)?.into_parts();
    let until = (started + timeout).into();
    let read = tokio::time::timeout_at(until, read(body, answer_bytes_max, cuts_answer)).await;
    let body = read.unwrap_or(Err(OwnCallError::TimedOut { after: timeout, sent: true }))?;
    Ok(OwnAnswer { status: head.status, headers: head.headers, body })
}

/// As the body has it, whatever was said before: two lengths would be two messages. A method that means something by its
/// body says that there is none (RFC 9110 §8.6).
fn say_length(request: &mut Request<Bytes>) {
    let length = request.body().len();
    let means_body = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let headers: &mut HeaderMap = request.headers_mut();
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    // Nothing is upgraded: there is nobody to speak the other protocol.
    headers.remove(header::UPGRADE);
    if length > 0 || means_body {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

async fn read(body: ResponseBody, bytes_max: usize, cuts: bool) -> Result<Bytes, OwnCallError> {
    let too_large = || OwnCallError::AnswerTooLarge { bytes_max };
    if !cuts && body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|error: BodyError| OwnCallError::NoAnswer(error.to_string()))?;
        // Trailers say nothing that a caller here asks for.
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > bytes_max {
            if cuts {
                break;
            }
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What a failure means for whoever made the call.
fn explained(Unanswered { failure, sent }: Unanswered) -> OwnCallError {
    match failure {
        Failure::NoService(service) => OwnCallError::NoService(service),
        Failure::TimedOut { after, .. } => OwnCallError::TimedOut { after, sent },
        failure if sent => OwnCallError::NoAnswer(failure.to_string()),
        Failure::NoEndpoint(_) | Failure::Shed(..) => OwnCallError::Unavailable(failure.to_string()),
        failure => OwnCallError::NotSent(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explains(failure: Failure, sent: bool) -> OwnCallError {
        explained(Unanswered { failure, sent })
    }

    #[test]
    fn an_error_says_that_a_call_may_have_run_wherever_any_attempt_was_sent() {
        let service = || "orders".parse().expect("a name");
        let after = Duration::from_secs(1);
        assert!(!explains(Failure::NoService(service()), false).may_have_run());
        assert!(matches!(explains(Failure::NoEndpoint(service()), false), OwnCallError::Unavailable(_)));
        assert!(matches!(explains(Failure::Shed(service(), after), false), OwnCallError::Unavailable(_)));
        assert!(matches!(explains(Failure::Loop, false), OwnCallError::NotSent(_)));
        for failure in [
            Failure::NoEndpoint(service()),
            Failure::Shed(service(), after),
            Failure::Coding(service()),
            Failure::TimedOut { service: service(), after },
        ] {
            let error = explains(failure, true);
            assert!(error.may_have_run(), "{error}");
        }
    }

    #[test]
    fn a_request_says_the_length_that_its_body_has() {
        let length = |method: Method, body: &'static str| {
            let mut request = Request::new(Bytes::from_static(body.as_bytes()));
            *request.method_mut() = method;
            request.headers_mut().insert(header::CONTENT_LENGTH, 7.into());
            say_length(&mut request);
            request.headers().get(header::CONTENT_LENGTH).map(|value| value.to_str().expect("digits").to_owned())
        };
        assert_eq!(length(Method::POST, "abc").as_deref(), Some("3"));
        assert_eq!(length(Method::POST, "").as_deref(), Some("0"));
        assert_eq!(length(Method::GET, ""), None);
    }
}
