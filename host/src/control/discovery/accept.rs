//! From a source's answer to endpoints that are possible; an answer with one impossible instance is refused whole.

use std::{collections::HashSet, sync::Arc};

use crate::{
    model::{EndpointSpec, HostPort, Weight},
    plugin::{Instance, SourceMembership},
};

/// Instances of one service.
const INSTANCES_MAX: usize = 20_000;
/// Of an id and of a zone, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Of one instance's metadata, names and values together, in bytes.
const METADATA_BYTES_MAX: usize = 16 << 10;
/// Problems of one answer that are told; more help nobody.
const PROBLEMS_TOLD_MAX: usize = 5;

/// An answer that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// In order of their ids, so that the same instances in another order are the same membership.
    pub endpoints: Arc<[EndpointSpec]>,
    pub cursor: String,
}

/// One sentence with what is wrong where something is.
pub fn accept(answer: SourceMembership) -> Result<Accepted, String> {
    let SourceMembership { instances, cursor } = answer;
    if instances.len() > INSTANCES_MAX {
        return Err(format!("{} instances, and {INSTANCES_MAX} is the most", instances.len()));
    }
    let mut ids = HashSet::with_capacity(instances.len());
    let mut problems = Vec::new();
    let mut endpoints = Vec::with_capacity(instances.len());
    for (index, instance) in instances.into_iter().enumerate() {
        let shown: String = instance.id.chars().filter(|letter| !letter.is_control()).take(80).collect();
        let result = endpoint(instance).and_then(|endpoint| {
            let new = ids.insert(endpoint.id.clone());
            if new { Ok(endpoint) } else { Err("its id is another instance's too".to_owned()) }
        });
        match result {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => problems.push(format!("instance {} ({shown:?}): {problem}", index + 1)),
        }
    }
    if problems.is_empty() {
        endpoints.sort_by(|one, other| one.id.cmp(&other.id));
        return Ok(Accepted { endpoints: endpoints.into(), cursor });
    }
    let more = problems.len().saturating_sub(PROBLEMS_TOLD_MAX);
    problems.truncate(PROBLEMS_TOLD_MAX);
    let more = if more > 0 { format!("; and {more} more problems") } else { String::new() };
    Err(format!("{}{more}", problems.join("; ")))
}

fn endpoint(instance: Instance) -> Result<EndpointSpec, String> {
    let Instance { id, address, weight, priority, zone, metadata, healthy } = instance;
    if id.is_empty() || id.len() > NAME_BYTES_MAX {
        return Err(format!("its id must have 1 to {NAME_BYTES_MAX} bytes"));
    }
    if zone.len() > NAME_BYTES_MAX {
        return Err(format!("its zone must have at most {NAME_BYTES_MAX} bytes"));
    }
    let metadata_bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata_bytes > METADATA_BYTES_MAX {
        return Err(format!("its metadata must have at most {METADATA_BYTES_MAX} bytes"));
    }
    let address: HostPort = address.parse().map_err(|error: crate::model::AddressError| error.to_string())?;
    let weight = Weight::new(i64::from(weight)).ok_or_else(|| format!("weight {weight}: must be 1 to 65535"))?;
    Ok(EndpointSpec { id: id.into(), address, weight, priority, zone, metadata, healthy })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, address: &str, weight: u32) -> Instance {
        Instance {
            id: id.to_owned(),
            address: address.to_owned(),
            weight,
            priority: 0,
            zone: String::new(),
            metadata: Vec::new(),
            healthy: true,
        }
    }

    fn answer(instances: Vec<Instance>) -> SourceMembership {
        SourceMembership { instances, cursor: "c".to_owned() }
    }

    #[test]
    fn the_order_of_instances_means_nothing() {
        let (a, b) = (instance("a", "10.0.0.1:1", 1), instance("b", "[::1]:2", 65535));
        let one = accept(answer(vec![a.clone(), b.clone()])).expect("possible");
        assert_eq!(one, accept(answer(vec![b, a])).expect("possible"));
    }

    #[test]
    fn one_impossible_instance_refuses_the_answer_and_every_reason_is_told() {
        let wrong = vec![
            instance("a", "10.0.0.1:1", 1),
            instance("a", "10.0.0.2:1", 1),
            instance("b", "nonsense", 1),
            instance("c", "10.0.0.3:1", 0),
            instance("", "10.0.0.4:1", 1),
            instance("d", "10.0.0.5:0", 1),
            instance("e", "10.0.0.6:1", 65536),
        ];
        let problem = accept(answer(wrong)).expect_err("impossible");
        for said in ["instance 2", "another instance's", "nonsense", "weight 0", "1 to 512", "1 more"] {
            assert!(problem.contains(said), "{said} is not in {problem}");
        }
        let many = (0..=INSTANCES_MAX).map(|n| instance(&n.to_string(), "10.0.0.1:1", 1)).collect();
        assert!(accept(answer(many)).expect_err("too many").contains("20000"));
    }
}
