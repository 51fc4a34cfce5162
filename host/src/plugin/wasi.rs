//! A small WASI 0.2 for components whose toolchain always imports it (DESIGN.md §3.3).
//!
//! What is printed goes to the gateway's log, clocks are the host's, randomness is seeded, and exiting is a trap;
//! there are no arguments, no environment, nothing to read, and no folders (a C library imports `filesystem` for what
//! it prints, too). Nothing here blocks. What a tolerated interface has besides traps when it is called. All else of
//! WASI is refused when the component is loaded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::Level;
use wasmtime::{
    Engine, Result, StoreContextMut, bail,
    component::{
        ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
        types::{Component, ComponentItem},
    },
};

use super::{instance::State, limits::GUEST_BYTES_MAX, load::ImportName};
use crate::model::Clock;

/// The interfaces of WASI 0.2 that every kind may import.
pub(super) const INTERFACES: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// The version of WASI that is spoken.
pub(super) const VERSION: &str = "0.2";

/// Bytes that a guest is told it may write at once. It may write as much again at once.
const WRITE_BYTES: u64 = 64 << 10;

/// Bytes of a line that has not ended yet; then it is written as it is.
const LINE_BYTES_MAX: usize = 4 << 10;

/// What one instance's WASI answers from.
pub(super) struct Wasi {
    clock: Clock,
    random: fastrand::Rng,
    /// What was printed since the last line end: to stdout, to stderr.
    lines: [Vec<u8>; 2],
}

impl Wasi {
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self { clock, random: fastrand::Rng::with_seed(seed), lines: [Vec::new(), Vec::new()] }
    }
}

/// Resolves what `component` imports of WASI: as it wants it, so that every 0.2.x will do.
pub(super) fn define_imports<I: 'static>(
    linker: &mut Linker<State<I>>,
    engine: &Engine,
    component: &Component,
) -> Result<()> {
    for (name, import) in component.imports(engine) {
        let interface = ImportName::parse(name).interface;
        let ComponentItem::ComponentInstance(wanted) = import.ty else { continue };
        if !INTERFACES.contains(&interface) {
            continue;
        }
        let mut instance = linker.instance(name)?;
        for (item, wanted) in wanted.exports(engine) {
            match wanted.ty {
                ComponentItem::Resource(_) => instance.resource(item, resource_type(item), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(_) if define_io(&mut instance, interface, item)? => (),
                ComponentItem::ComponentFunc(_) if define_system(&mut instance, interface, item)? => (),
                ComponentItem::ComponentFunc(_) => define_trap(&mut instance, interface, item)?,
                _ => (),
            }
        }
    }
    Ok(())
}

/// Output streams by number, as [`Wasi::lines`] has them.
const STDOUT: u32 = 0;
const STDERR: u32 = 1;
/// The one input stream.
const STDIN: u32 = 0;

/// Host types of the resources, which are only numbers.
enum InputStream {}
enum OutputStream {}
enum IoError {}
enum Pollable {}
/// Of what there is none: terminals, files, folders.
enum Absent {}

/// An interface that uses another's resource calls it by the same name.
fn resource_type(name: &str) -> ResourceType {
    match name {
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "error" => ResourceType::host::<IoError>(),
        "pollable" => ResourceType::host::<Pollable>(),
        _ => ResourceType::host::<Absent>(),
    }
}

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum StreamError {
    #[allow(dead_code, reason = "a case of WASI's type, though nothing that we do fails")]
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Cx<'a, I> = StoreContextMut<'a, State<I>>;
type Written = Result<(Result<(), StreamError>,)>;
type Read = Result<(Result<Vec<u8>, StreamError>,)>;

/// Streams. False where the item is not one that is answered.
fn define_io<I: 'static>(to: &mut LinkerInstance<'_, State<I>>, interface: &str, item: &str) -> Result<bool> {
    match (interface, item) {
        ("wasi:cli/stdin", "get-stdin") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Resource::<InputStream>::new_own(STDIN),)))?;
        }
        ("wasi:cli/stdout", "get-stdout") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Resource::<OutputStream>::new_own(STDOUT),)))?;
        }
        ("wasi:cli/stderr", "get-stderr") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Resource::<OutputStream>::new_own(STDERR),)))?;
        }
        (
            "wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr",
            "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr",
        ) => to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((None::<Resource<Absent>>,)))?,
        ("wasi:io/error", "[method]error.to-debug-string") => {
            to.func_wrap(item, |_: Cx<'_, I>, (_,): (Resource<IoError>,)| Ok(("error".to_owned(),)))?;
        }
        ("wasi:io/streams", "[method]input-stream.read" | "[method]input-stream.blocking-read") => {
            to.func_wrap(item, |_: Cx<'_, I>, _: (Resource<InputStream>, u64)| -> Read {
                Ok((Err(StreamError::Closed),))
            })?;
        }
        ("wasi:io/streams", "[method]output-stream.check-write") => {
            to.func_wrap(item, |_: Cx<'_, I>, _: (Resource<OutputStream>,)| Ok((Ok::<_, StreamError>(WRITE_BYTES),)))?;
        }
        ("wasi:io/streams", "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush") => {
            to.func_wrap(item, |mut cx: Cx<'_, I>, (stream, bytes): (Resource<OutputStream>, Vec<u8>)| -> Written {
                print(cx.data_mut(), stream.rep(), &bytes);
                Ok((Ok(()),))
            })?;
        }
        ("wasi:io/streams", "[method]output-stream.flush" | "[method]output-stream.blocking-flush") => {
            to.func_wrap(item, |_: Cx<'_, I>, _: (Resource<OutputStream>,)| -> Written { Ok((Ok(()),)) })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Environment, clocks, randomness. False where the item is not one that is answered.
fn define_system<I: 'static>(to: &mut LinkerInstance<'_, State<I>>, interface: &str, item: &str) -> Result<bool> {
    match (interface, item) {
        ("wasi:cli/environment", "get-environment") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Vec::<(String, String)>::new(),)))?;
        }
        ("wasi:cli/environment", "get-arguments") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Vec::<String>::new(),)))?;
        }
        ("wasi:cli/environment", "initial-cwd") => to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((None::<String>,)))?,
        ("wasi:filesystem/preopens", "get-directories") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Vec::<(Resource<Absent>, String)>::new(),)))?;
        }
        ("wasi:cli/exit", "exit") => {
            to.func_wrap(item, |_: Cx<'_, I>, (status,): (Result<(), ()>,)| -> Result<()> {
                bail!("called exit with {}", if status.is_ok() { "success" } else { "failure" })
            })?
        }
        ("wasi:clocks/monotonic-clock", "now") => {
            to.func_wrap(item, |cx: Cx<'_, I>, (): ()| Ok((cx.data().wasi.clock.now_us().saturating_mul(1000),)))?;
        }
        ("wasi:clocks/monotonic-clock", "resolution") => to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((1000_u64,)))?,
        ("wasi:clocks/wall-clock", "now") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((since_1970(SystemTime::now()),)))?;
        }
        ("wasi:clocks/wall-clock", "resolution") => {
            to.func_wrap(item, |_: Cx<'_, I>, (): ()| Ok((Datetime { seconds: 0, nanoseconds: 1000 },)))?;
        }
        ("wasi:random/random", "get-random-u64") | ("wasi:random/insecure", "get-insecure-random-u64") => {
            to.func_wrap(item, |mut cx: Cx<'_, I>, (): ()| Ok((cx.data_mut().wasi.random.u64(..),)))?;
        }
        ("wasi:random/random", "get-random-bytes") | ("wasi:random/insecure", "get-insecure-random-bytes") => {
            to.func_wrap(item, |mut cx: Cx<'_, I>, (len,): (u64,)| Ok((random_bytes(cx.data_mut(), len)?,)))?;
        }
        ("wasi:random/insecure-seed", "insecure-seed") => {
            to.func_wrap(item, |mut cx: Cx<'_, I>, (): ()| {
                let random = &mut cx.data_mut().wasi.random;
                Ok(((random.u64(..), random.u64(..)),))
            })?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn define_trap<I: 'static>(to: &mut LinkerInstance<'_, State<I>>, interface: &str, item: &str) -> Result<()> {
    let message = format!("called {interface}.{item}, which is not there for this kind of plugin");
    to.func_new(item, move |_, _, _, _| bail!("{message}"))
}

/// Whole lines go to the log; the rest waits for its end.
fn print<I>(state: &mut State<I>, stream: u32, mut bytes: &[u8]) {
    let (index, level) = if stream == STDERR { (1, Level::WARN) } else { (0, Level::INFO) };
    while !bytes.is_empty() {
        let line = &mut state.wasi.lines[index];
        let room = &bytes[..bytes.len().min(LINE_BYTES_MAX - line.len())];
        let end = room.iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&room[..end.unwrap_or(room.len())]);
        bytes = &bytes[end.map_or(room.len(), |end| end + 1)..];
        if end.is_some() || line.len() == LINE_BYTES_MAX {
            let line = std::mem::take(line);
            state.log.write(level, &String::from_utf8_lossy(&line));
        }
    }
}

fn random_bytes<I>(state: &mut State<I>, len: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|&len| len <= GUEST_BYTES_MAX);
    let Some(len) = len else { bail!("asked for more than {} MiB of random bytes", GUEST_BYTES_MAX >> 20) };
    let mut bytes = vec![0; len];
    state.wasi.random.fill(&mut bytes);
    Ok(bytes)
}

fn since_1970(now: SystemTime) -> Datetime {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
}
