//! What became of each POST, by its id.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How far the clients are.
pub struct Progress {
    posts: usize,
    next: AtomicUsize,
    done: AtomicUsize,
}

/// What instances do with a POST, as they note it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Its body came whole.
    Executed,
    /// A whole body came that is another one's.
    Mistaken,
    /// It was answered to the last byte.
    Answered,
    /// Its answer is broken off, by the instance's own doing.
    Cut,
}

/// What the instances know of one.
#[derive(Clone, Debug, Default)]
pub struct Post {
    pub executed: usize,
    pub mistaken: bool,
    pub answered: bool,
    pub cut: bool,
}

impl Progress {
    pub fn new(posts: usize) -> Self {
        Self { posts, next: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    pub fn len(&self) -> usize {
        self.posts
    }

    /// The next one to be sent.
    pub fn next(&self) -> Option<usize> {
        Some(self.next.fetch_add(1, Ordering::AcqRel)).filter(|&id| id < self.posts)
    }

    pub fn note_done(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
    }

    /// How many have been answered or have failed.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Acquire)
    }
}

const WORDS: [(&str, Note); 4] =
    [("executed", Note::Executed), ("mistaken", Note::Mistaken), ("answered", Note::Answered), ("cut", Note::Cut)];

impl Note {
    pub fn line(self, id: usize) -> String {
        let word = WORDS.iter().find(|(_, note)| *note == self).expect("each has its word").0;
        format!("{word} {id}\n")
    }
}

/// Each of so many, from what all instances have noted.
pub fn posts(count: usize, lines: impl Iterator<Item = String>) -> Vec<Post> {
    let mut posts = vec![Post::default(); count];
    for line in lines {
        let (word, id) = line.split_once(' ').expect("a word and an id");
        let post = &mut posts[id.parse::<usize>().expect("an id")];
        match WORDS.iter().find(|(known, _)| *known == word).expect("a known word").1 {
            Note::Executed => post.executed += 1,
            Note::Mistaken => post.mistaken = true,
            Note::Answered => post.answered = true,
            Note::Cut => post.cut = true,
        }
    }
    posts
}
