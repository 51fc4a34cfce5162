//! Steps that wait for others: a graph without cycles, as indices.

/// All steps so that each stands behind those it is `after`; those of a cycle, and what waits for them, are missing. An
/// index that is no step's counts as a cycle. (Kahn, "Topological sorting of large networks", 1962.)
pub fn in_order(after: &[&[u32]]) -> Vec<usize> {
    let mut waits_for: Vec<usize> = after.iter().map(|before| before.len()).collect();
    let followers = followers(after);
    let mut order: Vec<usize> = (0..after.len()).filter(|step| waits_for[*step] == 0).collect();
    let mut done = 0;
    while let Some(&step) = order.get(done) {
        done += 1;
        for &follower in &followers[step] {
            waits_for[follower] -= 1;
            if waits_for[follower] == 0 {
                order.push(follower);
            }
        }
    }
    order
}

/// For each step those that wait for it.
pub fn followers(after: &[&[u32]]) -> Vec<Vec<usize>> {
    let mut followers = vec![Vec::new(); after.len()];
    for (step, before) in after.iter().enumerate() {
        for &before in *before {
            if let Some(followers) = followers.get_mut(before as usize) {
                followers.push(step);
            }
        }
    }
    followers
}
