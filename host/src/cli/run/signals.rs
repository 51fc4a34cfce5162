//! What the process is told by signals.

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{cli::failure::Exit, control::Trigger};

/// Listens until it is dropped.
pub(super) struct Signals {
    task: JoinHandle<()>,
}

impl Signals {
    /// SIGHUP reloads, SIGTERM and SIGINT shut down; a second one of these ends the process at once. Needs a tokio
    /// runtime.
    pub fn begin(triggers: mpsc::Sender<Trigger>) -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hang_up = signal(SignalKind::hangup())?;
        Ok(Self { task: tokio::spawn(listen(terminate, interrupt, hang_up, triggers)) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(mut terminate: Signal, mut interrupt: Signal, mut hang_up: Signal, triggers: mpsc::Sender<Trigger>) {
    let mut shutting_down = false;
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hang_up.recv() => {
                // A full queue has a reload in it already.
                let _ = triggers.try_send(Trigger::ReloadAsked);
                continue;
            }
        };
        if shutting_down {
            tracing::warn!(signal = name, "second signal: ending at once, requests are cut off");
            std::process::exit(Exit::Failed as i32);
        }
        shutting_down = true;
        tracing::info!(signal = name, "shutting down; a second signal ends at once");
        // Nobody to tell means that the gateway is ending already.
        let _ = triggers.send(Trigger::Shutdown).await;
    }
}
