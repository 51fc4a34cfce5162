//! Handshakes and deliveries of webhooks.

use crate::{
    control::calls::{Call, GatewayCaller},
    events::{groups::WebhookCaller, handlers::OutgoingCall},
    model::OwnAnswer,
    plugin::BoxFuture,
};

/// Of an answer, as much as is read: what it says is of no use to anybody, but one that is larger cannot be told from one
/// that failed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

impl WebhookCaller for GatewayCaller {
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<OwnAnswer, String>> {
        let OutgoingCall { method, url, headers, body, timeout } = call;
        self.send(Call { method, url, headers, body, timeout, answer_bytes_max: ANSWER_BYTES_MAX })
    }

    fn check(&self, target: &str) -> Result<(), String> {
        self.check_target(target)
    }
}
