//! What a test asks of a gateway's control API.

use http::{Method, header};
use serde_json::{Value, json};

use crate::{
    client::Answer,
    gateway::Sluice,
    wait::{DEADLINE, wait_for, wait_until},
};

impl Sluice {
    /// The control API's view of a plugin.
    pub fn plugin(&self, name: &str) -> Value {
        self.control().get(&format!("/plugins/{name}")).expect(200).json()
    }

    /// The version of a plugin that is in use.
    pub fn active(&self, plugin: &str) -> String {
        text(&self.plugin(plugin)["active"])
    }

    /// Brings a component into use; what the gateway says of it.
    #[track_caller]
    pub fn push(&self, plugin: &str, component: &[u8]) -> Value {
        self.control().put_component(&format!("/plugins/{plugin}"), component).expect(200).json()
    }

    /// Lets the gateway have a component without bringing it into use; its version.
    #[track_caller]
    pub fn upload(&self, plugin: &str, component: &[u8]) -> String {
        let path = format!("/plugins/{plugin}?activate=false");
        text(&self.control().put_component(&path, component).expect(200).json()["uploaded"])
    }

    /// A push that must be refused; the answer.
    #[track_caller]
    pub fn refused_push(&self, plugin: &str, component: &[u8], status: u16) -> Refused {
        Refused(self.control().put_component(&format!("/plugins/{plugin}"), component).expect(status))
    }

    /// Gives a service another balancer.
    #[track_caller]
    pub fn set_balancer(&self, service: &str, plugin: &str, settings: Value) -> Value {
        let body = json!({"balancer": {"plugin": plugin, "settings": settings}});
        self.control().patch(&format!("/services/{service}"), &body).expect(200).json()
    }

    /// Gives a service another failover policy.
    #[track_caller]
    pub fn set_failover(&self, service: &str, plugin: &str, settings: Value) -> Value {
        let body = json!({"failover": {"plugin": plugin, "settings": settings}});
        self.control().patch(&format!("/services/{service}"), &body).expect(200).json()
    }

    /// How often failover has done something for a service: `sluice_failover_total`.
    pub fn failover_events(&self, service: &str, event: &str) -> f64 {
        let labels = [format!("service=\"{service}\""), format!("event=\"{event}\"")];
        self.metric("sluice_failover_total", &[&labels[0], &labels[1]])
    }

    /// What became of a service's endpoints, the latest first.
    pub fn health_history(&self, service: &str) -> Vec<Value> {
        self.service(service)["failover"]["history"].as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    pub fn start_canary(&self, plugin: &str, version: &str, percent: u8) {
        let body = json!({"version": version, "percent": percent});
        self.control().post(&format!("/plugins/{plugin}/canary"), &body).expect(200);
    }

    /// What happened that is of this kind, the latest first.
    pub fn history(&self, kind: &str) -> Vec<Value> {
        let page = self.control().get("/history").expect(200).json();
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        entries.into_iter().filter(|entry| entry["kind"] == kind).collect()
    }

    /// Waits for something of this kind whose message contains each of `parts`; the message.
    pub fn await_history(&self, kind: &str, parts: &[&str]) -> String {
        wait_for(&format!("a {kind} with {parts:?} in the history"), DEADLINE, || {
            let messages = self.history(kind).into_iter().map(|entry| text(&entry["message"]));
            messages.into_iter().find(|message| parts.iter().all(|part| message.contains(part)))
        })
    }

    /// A transaction with all that has happened to it.
    #[track_caller]
    pub fn transaction(&self, gid: &str) -> Value {
        self.control().get(&format!("/transactions/{gid}")).expect(200).json()
    }

    /// Waits until a transaction stands so; all that has happened to it.
    pub fn await_transaction(&self, gid: &str, status: &str) -> Value {
        // Attempts of calls are some seconds apart.
        wait_for(&format!("transaction {gid} to be {status}"), DEADLINE * 2, || {
            let shown = self.transaction(gid);
            (shown["status"] == status).then_some(shown)
        })
    }

    /// Waits until each worker has an instance of the service's plugin that decides.
    pub fn await_live_instances(&self, service: &str) {
        wait_until("every instance to be live", || {
            let service = self.service(service);
            service["instances"].as_array().is_some_and(|all| all.iter().all(|one| one["state"] == "live"))
        });
    }

    /// Any request to the control listener with a JSON content type.
    pub fn control_json(&self, method: Method, path: &str, body: &str) -> Answer {
        let headers = [(header::CONTENT_TYPE.as_str(), "application/json")];
        self.control().send(method, path, &headers, body.as_bytes().to_vec())
    }
}

/// A problem document.
#[derive(Clone, Debug)]
pub struct Refused(pub Answer);

impl Refused {
    pub fn of(answer: Answer) -> Self {
        Self(answer)
    }

    /// The places of all problems (JSON pointers, empty for the whole), in order.
    pub fn pointers(&self) -> Vec<String> {
        self.problems().iter().map(|problem| text(&problem["pointer"])).collect()
    }

    pub fn problems(&self) -> Vec<Value> {
        self.0.json()["problems"].as_array().cloned().unwrap_or_default()
    }

    /// Everything that it says, in one text.
    pub fn words(&self) -> String {
        let document = self.0.json();
        let problems = self.problems();
        let messages = problems.iter().map(|problem| text(&problem["message"]));
        std::iter::once(text(&document["detail"])).chain(messages).collect::<Vec<_>>().join("; ")
    }

    /// Itself, where it says each of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let said = self.words();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        self
    }
}

/// A JSON string's own text; empty for anything else.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
