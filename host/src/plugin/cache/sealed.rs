//! Compiled code under a seal, and the one `unsafe` of this crate: to run it without compiling.
#![allow(unsafe_code, reason = "wasmtime cannot check that bytes are code that it has made; this module does")]

use sha2::Digest;
use wasmtime::{Engine, component::Component};

use super::Sha256;

const SEAL_BYTES: usize = 32;

/// The code with its seal behind it: a hash of the code, of what it was made from and of what made it.
pub(super) fn seal(engine: &Sha256, component: &Sha256, mut code: Vec<u8>) -> Vec<u8> {
    let seal = digest(engine, component, &code);
    code.extend_from_slice(&seal);
    code
}

/// The component, if the seal is whole and for this engine and component.
pub(super) fn open(engine: &Engine, engine_key: &Sha256, component: &Sha256, sealed: &[u8]) -> Option<Component> {
    let (code, seal) = sealed.split_last_chunk::<SEAL_BYTES>()?;
    if *seal != digest(engine_key, component, code) {
        return None;
    }
    // SAFETY: `deserialize` asks for bytes that `Component::serialize` made, unchanged. The seal is a SHA-256 over
    // them that only `seal` above makes, which is only given what `serialize` returned; so these are the bytes,
    // unless somebody forged file and seal. The file lies in a folder of mode 0700 that belongs to the user of this
    // process (`CodeCache::open` sees to both), so only this user could, who can run code here anyway. Bytes of
    // another engine have another `engine_key` in their seal, and `deserialize` itself refuses them.
    unsafe { Component::deserialize(engine, code) }.ok()
}

fn digest(engine: &Sha256, component: &Sha256, code: &[u8]) -> [u8; SEAL_BYTES] {
    let mut digest = sha2::Sha256::new();
    digest.update(b"sluice compiled component 1");
    digest.update(engine.0);
    digest.update(component.0);
    digest.update(code);
    digest.finalize().into()
}
