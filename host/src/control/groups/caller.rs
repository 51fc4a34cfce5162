//! Handshakes and deliveries of webhooks.

use crate::{
    control::calls::{Call, GatewayCaller},
    events::{groups::WebhookCaller, handlers::OutgoingCall},
    model::OwnAnswer,
    plugin::BoxFuture,
};

/// Of an answer, as much as is read, so that its connection can be kept: what it says beside its status is of no use to
/// anybody, and one that says more is no failure.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

impl WebhookCaller for GatewayCaller {
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<OwnAnswer, String>> {
        let OutgoingCall { method, url, headers, body, timeout } = call;
        let answer_bytes_max = ANSWER_BYTES_MAX;
        self.send(Call { method, url, headers, body, timeout, answer_bytes_max, cuts_answer: true })
    }

    fn check(&self, target: &str) -> Result<(), String> {
        self.check_target(target)
    }
}
