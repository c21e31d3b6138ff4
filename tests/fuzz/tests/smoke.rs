//! Each law on its examples, cut at every byte, and on mutations of them.

use std::panic::catch_unwind;

use fuzz::mutate::{Random, mutation};
use fuzz::{LAWS, Law};

/// How many mutations of each law's examples are tried.
const MUTATIONS: u64 = 3_000;

/// The bytes stand in the message of the panic: they go into a test beside the code that they break.
fn try_on(law: Law, data: &[u8]) {
    if catch_unwind(|| law.try_on(data)).is_err() {
        panic!("the law `{}` is broken by b\"{}\"", law.name, data.escape_ascii());
    }
}

fn try_law(law: Law) {
    let examples = law.examples();
    assert!(!examples.is_empty());
    for example in &examples {
        let step = example.len() / 400 + 1;
        for end in (0..example.len()).step_by(step) {
            try_on(law, &example[..end]);
        }
        try_on(law, example);
    }
    for number in 0..MUTATIONS {
        try_on(law, &mutation(&mut Random::new(number), &examples));
    }
}

#[test]
fn the_laws_hold() {
    let threads = LAWS.map(|law| (law.name, std::thread::spawn(move || try_law(law))));
    let broken: Vec<_> =
        threads.into_iter().filter_map(|(name, thread)| thread.join().is_err().then_some(name)).collect();
    assert!(broken.is_empty(), "broken: {broken:?}");
}
