//! Endpoints from DNS. Settings: `name`; `port`, with which A and AAAA records make endpoints (without it, SRV records
//! are asked for); `family` (`any`, `ipv4`, `ipv6`); `refresh_min` and `refresh_max`, between which the records' TTL
//! decides when they are asked for again; `nxdomain` (`error`: an absent name leaves the last endpoints standing;
//! `empty`: it has none).

mod records;

use records::{Family, Srv, digest};
use sluice_sdk::{
    Context, InstantUs, Settings, clock,
    discovery::{Discovery, Member, Membership, WatchError, Watched},
    dns,
};

const SECOND_US: u64 = 1_000_000;

struct Dns {
    name: String,
    port: Option<u16>,
    family: Family,
    refresh_us: (u64, u64),
    empty_on_nxdomain: bool,
    /// When the last answer has run out.
    due: Option<InstantUs>,
}

impl Discovery for Dns {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let name = settings.required_text("name", "orders.internal");
        let port = settings.integer("port", 0, 0..=65535);
        let families = [("any", Family::Any), ("ipv4", Family::V4), ("ipv6", Family::V6)];
        let family = settings.one_of("family", &families);
        let least = settings.duration_us("refresh_min", SECOND_US, 100_000..=3600 * SECOND_US);
        let most = settings.duration_us("refresh_max", 60 * SECOND_US, 100_000..=24 * 3600 * SECOND_US);
        if most < least {
            settings.problem("refresh_max", "must not be less than refresh_min");
        }
        let empty_on_nxdomain = settings.one_of("nxdomain", &[("error", false), ("empty", true)]);
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        Self { name, port, family, refresh_us: (least, most), empty_on_nxdomain, due: None }
    }

    /// The cursor is a digest of the endpoints.
    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let deadline = clock::now() + u64::from(wait_ms) * 1000;
        loop {
            let now = clock::now();
            if let Some(due) = self.due.filter(|due| cursor.is_some() && *due > now) {
                if due > deadline {
                    sleep_until(deadline, now);
                    return Ok(None);
                }
                sleep_until(due, now);
            }
            let (instances, ttl_s) = self.ask()?;
            let (least, most) = self.refresh_us;
            self.due = Some(clock::now() + (u64::from(ttl_s) * SECOND_US).clamp(least, most.max(least)));
            let now_cursor = digest(&instances);
            if cursor != Some(&now_cursor) {
                return Ok(Some(Membership { instances, cursor: now_cursor }));
            }
        }
    }
}

impl Dns {
    fn ask(&self) -> Result<(Vec<Member>, u32), WatchError> {
        let answer = match self.port {
            Some(port) => dns::addresses(&self.name)
                .map(|(addresses, ttl)| (records::from_addresses(&addresses, port, self.family), ttl)),
            None => dns::services(&self.name).map(|(targets, ttl)| {
                let srv = targets.into_iter().map(|target| {
                    let dns::Target { name, port, priority, weight } = target;
                    Srv { name, port, priority, weight }
                });
                (records::from_srv(srv), ttl)
            }),
        };
        match answer {
            Err(dns::Error::NoSuchName) if self.empty_on_nxdomain => Ok((Vec::new(), 0)),
            Err(dns::Error::NoSuchName) => Err(WatchError::Unavailable(format!("there is no name {}", self.name))),
            Err(dns::Error::NotAllowed) => Err(WatchError::Refused(format!("{} is not among allow_names", self.name))),
            Err(dns::Error::Failed(why)) => Err(WatchError::Unavailable(format!("{}: {why}", self.name))),
            Ok(answer) => Ok(answer),
        }
    }
}

fn sleep_until(instant: InstantUs, now: InstantUs) {
    let ms = instant.saturating_sub(now).div_ceil(1000);
    clock::sleep_ms(u32::try_from(ms).unwrap_or(u32::MAX));
}

sluice_sdk::discovery!(Dns);
