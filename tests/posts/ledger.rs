//! What became of each POST, by its id.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Of all POSTs, over all instances.
pub struct Ledger {
    posts: Vec<Post>,
    next: AtomicUsize,
    done: AtomicUsize,
}

/// What the instances know of one.
#[derive(Default)]
pub struct Post {
    /// How often its body came whole.
    pub executed: AtomicU8,
    /// Whether it was answered to the last byte.
    pub answered: AtomicBool,
    /// Whether an instance broke its answer off.
    pub cut: AtomicBool,
}

impl Ledger {
    pub fn new(posts: usize) -> Self {
        let posts = (0..posts).map(|_| Post::default()).collect();
        Self { posts, next: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    pub fn len(&self) -> usize {
        self.posts.len()
    }

    pub fn post(&self, id: usize) -> &Post {
        &self.posts[id]
    }

    /// The next one to be sent.
    pub fn next(&self) -> Option<usize> {
        Some(self.next.fetch_add(1, Ordering::AcqRel)).filter(|&id| id < self.posts.len())
    }

    pub fn note_done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }

    /// How many have been answered or have failed.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Acquire)
    }
}
