//! What a client's request means.

use sluice_sdk::transaction::{
    Branch, Operation, Phase, Problems, Request,
    request::{coordinated, operation, registered},
};

pub fn branches(request: &Request, enlisted: &[Branch], problems: &mut Problems) -> Vec<Branch> {
    if request.get("branch_id").is_some() {
        let url = request.required_target("url", problems);
        // The names are DTM's.
        let operations = vec![
            Operation { by_client: true, ..operation("action", String::new(), Phase::Undecided) },
            operation("commit", url.clone(), Phase::Committed),
            operation("rollback", url, Phase::Aborted),
        ];
        return registered(request, operations, enlisted, problems);
    }
    // Without any, branches are registered later.
    if request.get("branches").is_none() {
        return Vec::new();
    }
    coordinated(request, ["prepare", "commit", "abort"], problems)
}
