//! How an attempt ended, in the words of WIT `types.outcome`.

use super::Slot;

/// How one attempt at one endpoint ended (WIT `types.outcome`, same order).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// 1xx to 3xx, or gRPC OK.
    Success,
    /// 4xx except 408 and 429: says nothing against the endpoint.
    ClientError,
    /// 500, 501, 505 and above.
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// 429.
    Overloaded,
    /// No connection; nothing was sent.
    ConnectFailed,
    /// The connection broke after at least one byte was sent.
    Reset,
    /// A timeout passed first; also 408.
    TimedOut,
    /// The client went away: says nothing against the endpoint.
    Cancelled,
}

impl Outcome {
    pub const COUNT: usize = 9;
    pub const ALL: [Self; Self::COUNT] = [
        Self::Success,
        Self::ClientError,
        Self::ServerError,
        Self::GatewayError,
        Self::Overloaded,
        Self::ConnectFailed,
        Self::Reset,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// The outcome that a response head with this status means.
    pub fn of_status(status: u16) -> Self {
        match status {
            ..400 => Self::Success,
            408 => Self::TimedOut,
            429 => Self::Overloaded,
            400..500 => Self::ClientError,
            502..=504 => Self::GatewayError,
            _ => Self::ServerError,
        }
    }

    /// The outcome that a gRPC status code means (WIT `types.outcome` lists them).
    pub fn of_grpc_status(code: u8) -> Self {
        match code {
            0 => Self::Success,
            1 => Self::Cancelled,
            4 => Self::TimedOut,
            8 => Self::Overloaded,
            14 => Self::GatewayError,
            2 | 13 | 15 => Self::ServerError,
            _ => Self::ClientError,
        }
    }

    /// Whether it counts against the endpoint.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Success | Self::ClientError | Self::Cancelled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client-error",
            Self::ServerError => "server-error",
            Self::GatewayError => "gateway-error",
            Self::Overloaded => "overloaded",
            Self::ConnectFailed => "connect-failed",
            Self::Reset => "reset",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What one attempt taught (WIT `types.completion`).
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    pub slot: Slot,
    pub outcome: Outcome,
    /// When it ended, on the gateway's clock.
    pub at_us: super::InstantUs,
    /// From sending the request to the response head; 0 if none came.
    pub first_byte_us: u32,
    /// From sending the request to the end.
    pub total_us: u32,
    /// Load the endpoint reported about itself, in thousandths of its capacity.
    pub load_permille: Option<u16>,
}
