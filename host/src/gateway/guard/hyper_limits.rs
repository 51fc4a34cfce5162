//! hyper's own limits, so set that the guard's are met first and a client gets its answer from us.

use hyper::server::conn::http1;

use crate::model::Limits;

/// hyper's default; said again only where it is not enough, since hyper keeps that many on the stack and takes
/// the heap for any number it is told.
const HYPER_HEADERS_MAX: usize = 100;

/// hyper's default for what it reads ahead: 8 KiB and 100 pages of 4 KiB.
const HYPER_BUFFER_MAX: usize = 8 * 1024 + 100 * 4 * 1024;

/// Lets hyper take whatever the guard passes.
pub fn raise_hyper_limits(builder: &mut http1::Builder, limits: &Limits) {
    // hyper refuses trailers that reach the limit; the guard, those beyond it.
    builder.max_header_size(limits.header_bytes_max + 1);
    if limits.header_count_max > HYPER_HEADERS_MAX {
        builder.max_headers(limits.header_count_max);
    }
    if limits.header_bytes_max >= HYPER_BUFFER_MAX {
        builder.max_buf_size(limits.header_bytes_max + 1);
    }
}
