//! What a client's request means.

use sluice_sdk::transaction::{
    Branch, Operation, Phase, Problems, Request,
    request::{coordinated, operation, registered},
};

pub fn branches(request: &Request, enlisted: &[Branch], problems: &mut Problems) -> Vec<Branch> {
    if request.get("branch_id").is_some() {
        let operations = vec![
            Operation { by_client: true, ..operation("try", String::new(), Phase::Undecided) },
            operation("confirm", request.required_target("confirm", problems), Phase::Committed),
            operation("cancel", request.required_target("cancel", problems), Phase::Aborted),
        ];
        return registered(request, operations, enlisted, problems);
    }
    // Without any, branches are registered later.
    if request.get("branches").is_none() {
        return Vec::new();
    }
    coordinated(request, ["try", "confirm", "cancel"], problems)
}
