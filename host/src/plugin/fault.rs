//! From wasmtime's errors to a [`Fault`]: what kind it is, and one sentence that says where.

use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use super::{Fault, FaultKind, instance::State, limits, log::printable};

/// Guest functions named in a message, the innermost first.
const FRAMES_MAX: usize = 6;

/// Longest message, in bytes: a guest's mangled names can be long.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Reads the error of `call` in the light of what the limits saw during it.
#[cold]
pub(super) fn classify<I>(call: &'static str, error: &wasmtime::Error, state: &State<I>) -> Fault {
    let (kind, mut message) = if state.deadline.overrun() {
        let budget = state.deadline.budget();
        (FaultKind::Deadline, format!("took more than {} of CPU time", humantime::format_duration(budget)))
    } else if state.memory.refused() {
        let mib = state.memory.bytes_max() as f64 / f64::from(1 << 20);
        (FaultKind::Memory, format!("wanted more than its {mib} MiB of memory"))
    } else {
        (FaultKind::Trap, cause(error))
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        add_frames(&mut message, backtrace);
    }
    Fault { kind, call, message: printable(&message, MESSAGE_BYTES_MAX) }
}

fn cause(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "trapped: it panicked or aborted (unreachable code)".to_owned(),
        Some(trap) => {
            let trap = trap.to_string();
            format!("trapped: {}", trap.strip_prefix("wasm trap: ").unwrap_or(&trap))
        }
        None => {
            let cause = error.root_cause().to_string();
            // The error has no public type. Where its words change, the guest's author reads those.
            if cause.contains("fuel allocated for hostcalls") {
                format!("gave the host more than {} MiB at once", limits::GUEST_BYTES_MAX >> 20)
            } else {
                cause
            }
        }
    }
}

/// Crates and functions by which a language gets from a panic to the trap: the guest's author knows them.
const PANIC_MACHINERY: [&str; 6] = ["core::", "std::", "alloc::", "__rust", "rust_", "abort"];

/// The innermost functions first. Left out: what lies between a panic and its trap, and the shims that toolchains put
/// between modules, which have no names. Where nothing else is there they are shown.
fn add_frames(message: &mut String, backtrace: &WasmBacktrace) {
    let names: Vec<_> = backtrace.frames().iter().map(|frame| (name(frame), frame.func_name().is_some())).collect();
    let any_named = names.iter().any(|(_, named)| *named);
    let shown = names.iter().filter(|(_, named)| *named || !any_named).map(|(name, _)| name);
    let is_machinery = |name: &&String| PANIC_MACHINERY.iter().any(|start| name.starts_with(start));
    let own: Vec<_> = shown.clone().skip_while(is_machinery).collect();
    let shown = if own.is_empty() { shown.collect() } else { own };
    for (index, name) in shown.into_iter().enumerate() {
        message.push_str(if index == 0 { ", in " } else { " < " });
        if index == FRAMES_MAX {
            message.push('…');
            return;
        }
        message.push_str(name);
    }
}

fn name(frame: &FrameInfo) -> String {
    match frame.func_name() {
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    }
}
