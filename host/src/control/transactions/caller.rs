//! What the coordinator asks of the rest: calls to participants, and the versions that transactions keep to.

use std::sync::Arc;

use crate::{
    control::{
        calls::{Call, GatewayCaller},
        pinned::PinnedVersions,
    },
    transactions::{
        ANSWER_BYTES_MAX, Answered, BranchCall, BranchCaller, CallAnswer, ComponentProtocol, Pin, Protocol, RawAnswer,
        Versions,
    },
};

impl BranchCaller for GatewayCaller {
    fn call(&self, call: BranchCall) -> Answered {
        let BranchCall { method, url, headers, body, timeout } = call;
        let answer_bytes_max = ANSWER_BYTES_MAX;
        let sent = self.send(Call { method, url, headers, body, timeout, answer_bytes_max, cuts_answer: false });
        Box::pin(async move {
            match sent.await {
                Ok(answer) => CallAnswer::of(&RawAnswer { status: answer.status, body: answer.body }),
                Err(error) => CallAnswer::Unclear(error),
            }
        })
    }

    fn check(&self, target: &str) -> Result<(), String> {
        self.check_target(target)
    }
}

impl Versions for PinnedVersions {
    fn load(&self, pin: &Pin) -> Result<Arc<dyn Protocol>, String> {
        let version = self.load(&pin.plugin, pin.version)?;
        let protocol = ComponentProtocol::new(version, pin, self.clock, fastrand::u64(..));
        Ok(Arc::new(protocol.map_err(|error| format!("plugin {} {}: {error}", pin.plugin, pin.version))?))
    }
}
